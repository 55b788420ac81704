import Supervision

/// The kills of a storm, drawn from a seed before it begins.
struct StormPlan: Sendable {
    private(set) var steps: [[Chaos.Scenario.Kill]] = []
    private var random: SplitMix64
    private let processes: [LiveTree.Process]
    private let ways: [(Chaos.Way, weight: Double)]
    private let faults: [(Chaos.Fault, weight: Double)]
    private let share: Double
    private let pace: Chaos.Pace
    private let rest: Duration

    /// - Parameters:
    ///   - share: The probability of a fault instead of a kill.
    ///   - rest: The time after which the tree's history no longer matters.
    init(
        seed: UInt64,
        processes: [LiveTree.Process],
        ways: [Chaos.Way: Double],
        faults: [Chaos.Fault],
        share: Double,
        pace: Chaos.Pace,
        rest: Duration
    ) {
        random = SplitMix64(seed: seed)
        self.processes = processes
        // Sorted, because the order of a dictionary differs between runs.
        self.ways = ways.filter { $0.value > 0 && $0.key != .outside }
            .sorted { $0.key.description < $1.key.description }
            .map { ($0.key, $0.value) }
        self.faults = faults.filter { $0.weight > 0 }.map { ($0, $0.weight) }
        self.share = share
        self.pace = pace
        self.rest = rest
    }

    /// Draws this many more, a million at most.
    mutating func add(_ count: Int, _ canEnd: (LiveTree.Process, Chaos.Way) -> Bool) {
        let count = min(count, 1_000_000)
        var drawn = 0
        var tries = 0
        while drawn < count, tries < count * 100 {
            tries += 1
            guard let kill = draw(canEnd) else { continue }
            append(kill, isFirst: drawn == 0)
            drawn += 1
        }
    }

    private mutating func draw(_ canEnd: (LiveTree.Process, Chaos.Way) -> Bool) -> Chaos.Scenario.Kill? {
        // Without faults no random number is used for them: the same seed gives the same kills.
        if !faults.isEmpty, random.unit() < share { return draw(faults).map { .fault($0.name) } }
        guard !processes.isEmpty else { return nil }
        let process = processes[Int(random.next() % UInt64(processes.count))]
        guard let way = draw(ways), canEnd(process, way) else { return nil }
        return Chaos.Scenario.Kill(process.path, way)
    }

    private mutating func append(_ kill: Chaos.Scenario.Kill, isFirst: Bool) {
        var kill = kill
        switch pace {
        case .rested:
            if !isFirst { kill.pause = rest }
            steps.append([kill])
        case .settled: steps.append([kill])
        case .pausing(let pause):
            if !isFirst { kill.pause = pause }
            steps.append([kill])
        case .every(let interval):
            if !isFirst { kill.pause = interval }
            steps = [(steps.first ?? []) + [kill]]
        case .atOnce(let many):
            if let last = steps.last, last.count < many {
                steps[steps.count - 1] = last + [kill]
            } else {
                steps.append([kill])
            }
        }
    }

    private mutating func draw<Choice>(_ choices: [(Choice, weight: Double)]) -> Choice? {
        var left = random.unit() * choices.reduce(0) { $0 + $1.weight }
        for (choice, weight) in choices {
            left -= weight
            if left < 0 { return choice }
        }
        return choices.last?.0
    }

    /// This many of the items, in order.
    static func sample<Item>(_ items: [Item], _ count: Int, seed: UInt64) -> [Item] {
        guard count < items.count else { return items }
        var random = SplitMix64(seed: seed)
        // The beginning of a shuffle (Fisher and Yates).
        var indices = Array(items.indices)
        for place in 0..<max(0, count) {
            indices.swapAt(place, place + Int(random.next() % UInt64(indices.count - place)))
        }
        return indices.prefix(max(0, count)).sorted().map { items[$0] }
    }
}
