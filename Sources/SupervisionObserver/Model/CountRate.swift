/// The growth of a count, from samples about once a second: a pure value of bounded size.
struct CountRate: Sendable {
    static let secondsKept = 60
    private static let averaged = 10

    private var looks: [(time: ContinuousClock.Instant, increase: Int)] = []
    private var last: Int?
    private var began: ContinuousClock.Instant?

    /// Records a sample. A count that has decreased started again at 0.
    ///
    /// - Returns: The increase since the previous sample; 0 for the first.
    mutating func record(_ count: Int, at now: ContinuousClock.Instant) -> Int {
        let increase = last.map { count >= $0 ? count - $0 : max(0, count) } ?? 0
        last = count
        add(increase, at: now)
        return increase
    }

    mutating func add(_ increase: Int, at now: ContinuousClock.Instant) {
        // The first sample contains no information about the rate.
        guard began != nil else {
            began = now
            return
        }
        looks.append((now, increase))
        if looks.count > Self.secondsKept { looks.removeFirst() }
    }

    /// Over the last ten samples.
    var perSecond: Double {
        guard let began, let end = looks.last?.time else { return 0 }
        let recent = looks.suffix(Self.averaged)
        let start = looks.count > recent.count ? looks[looks.count - recent.count - 1].time : began
        let seconds = start.duration(to: end).seconds
        return seconds > 0 ? Double(recent.reduce(0) { $0 + $1.increase }) / seconds : 0
    }

    /// The increases between samples, oldest first.
    var history: [Int] { looks.map(\.increase) }
}
