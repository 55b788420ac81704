import DequeModule
import RPCWire

/// The requests a receiver has taken on and not answered: which run, which wait for a place, and until when.
///
/// A pure value. Taking an entry out is the right to answer it, so a request is answered at most once whatever races: its
/// handler's end with its deadline, or with the loss of its channel.
///
/// A handler that is still running when its request is taken out is a zombie until it ends: Swift cannot preempt it.
struct RequestTable<Job: Sendable, ChannelID: Hashable & Sendable>: Sendable {
    /// Names a request within this receiver.
    typealias Key = UInt64

    private enum Phase: Sendable {
        /// It stands in line for a place.
        case waiting
        case running
        /// It has begun, and waits without a place for the answer to another request with the same id.
        case following
    }

    private struct Entry: Sendable {
        let job: Job
        let channel: ChannelID
        let deadline: Moment
        let began: Moment
        var phase: Phase
        /// Whether its handler, or what stands around it, has begun.
        var hasBegun = false
    }

    /// A request that has a place now.
    typealias Start = (key: Key, job: Job, isResumed: Bool)

    private var entries: [Key: Entry] = [:]
    private var counts: [ChannelID: Int] = [:]
    private var line = Deque<Key>()
    private var deadlines = DeadlineHeap()
    private var lastKey: Key = 0
    private var isClosed = false
    private let concurrency: Int
    private var zombies: Set<Key> = []
    private(set) var runningCount = 0
    /// How many stand in line.
    private(set) var waitingCount = 0

    init(concurrency: Int) {
        self.concurrency = max(1, concurrency)
    }

    /// How many requests are not answered.
    var count: Int { entries.count }

    /// How many handlers run on although their requests are given up.
    var zombieCount: Int { zombies.count }

    /// Whether a request that comes now would have to wait.
    var isFull: Bool { runningCount >= concurrency }

    /// Whether its handler runs, or is about to, and is waited for.
    func isRunning(_ key: Key) -> Bool { entries[key]?.phase == .running }

    /// Whether its handler runs, or is about to, although the request is given up.
    func isZombie(_ key: Key) -> Bool { zombies.contains(key) }

    /// How many requests of a channel are not answered.
    func count(of channel: ChannelID) -> Int { counts[channel] ?? 0 }

    /// The requests that were taken on first. Walks the table.
    func oldest(
        _ limit: Int,
        at now: Moment,
        _ names: (Job) -> (id: String, procedure: String)
    ) -> [CallInFlight] {
        var oldest = Oldest<Entry>(limit: limit)
        for entry in entries.values { oldest.offer(entry.began, entry) }
        return oldest.elements.map { entry in
            let (id, procedure) = names(entry.job)
            let stage: CallInFlight.Stage =
                switch entry.phase {
                case .waiting: .waiting
                case .running: .running
                case .following: .following
                }
            return CallInFlight(
                id: id,
                procedure: procedure,
                age: entry.began.duration(to: now),
                remaining: now.duration(to: entry.deadline),
                stage: stage
            )
        }
    }

    /// The next deadline to look at.
    var earliestDeadline: Moment? { deadlines.earliest }

    /// Takes a request on. `nil`: the table has ended, and the request is left to be redelivered.
    ///
    /// The line needs no bound of its own: a channel delivers no more than its prefetch before something is answered.
    mutating func accept(
        _ job: Job,
        from channel: ChannelID,
        deadline: Moment,
        now: Moment = .now
    ) -> Key? {
        guard !isClosed else { return nil }
        lastKey += 1
        entries[lastKey] = Entry(job: job, channel: channel, deadline: deadline, began: now, phase: .waiting)
        counts[channel, default: 0] += 1
        deadlines.insert(RequestID(number: lastKey), at: deadline)
        line.append(lastKey)
        waitingCount += 1
        return lastKey
    }

    /// A request that runs gives its place back and waits for the answer to another one.
    mutating func follow(_ key: Key) {
        guard entries[key]?.phase == .running else { return }
        entries[key]?.phase = .following
        runningCount -= 1
    }

    /// The request it followed has ended: it stands in line for a place, to go on.
    mutating func enqueue(_ key: Key) {
        guard entries[key]?.phase == .following else { return }
        entries[key]?.phase = .waiting
        line.append(key)
        waitingCount += 1
    }

    /// The next request to run, if there is a place for it. One whose deadline has passed is left for ``expire(at:)``.
    ///
    /// - Parameter now: Looked at only when there is one.
    mutating func startNext(at now: @autoclosure () -> Moment) -> Start? {
        guard runningCount < concurrency else { return nil }
        while let key = line.popFirst() {
            guard let entry = entries[key], entry.phase == .waiting, entry.deadline > now() else { continue }
            entries[key]?.phase = .running
            entries[key]?.hasBegun = true
            waitingCount -= 1
            runningCount += 1
            return (key, entry.job, isResumed: entry.hasBegun)
        }
        return nil
    }

    /// Takes a request out: its handler has ended, or it is answered with what another's handler answered. `nil`: it was answered
    /// or given up before.
    mutating func finish(_ key: Key) -> Job? {
        if zombies.remove(key) != nil { return nil }
        guard let entry = remove(key) else { return nil }
        return entry.job
    }

    /// Takes out what is past its deadline. A handler that runs on does not hold its place any longer.
    mutating func expire(at now: Moment) -> [(key: Key, job: Job, hadBegun: Bool)] {
        var expired: [(key: Key, job: Job, hadBegun: Bool)] = []
        while let key = deadlines.popDue(at: now)?.low {
            if let entry = abandon(key) { expired.append((key, entry.job, entry.hasBegun)) }
        }
        return expired
    }

    /// A channel is gone: its requests will be redelivered, and nobody may answer them here.
    mutating func closed(_ channel: ChannelID) -> [(key: Key, job: Job)] {
        let gone = entries.filter { $0.value.channel == channel }.map { (key: $0.key, job: $0.value.job) }
        for (key, _) in gone { _ = abandon(key) }
        return gone
    }

    /// The end: nothing is answered any more, nothing new is taken on.
    mutating func close() -> [Key] {
        isClosed = true
        let gone = Array(entries.keys)
        for key in gone { _ = abandon(key) }
        return gone
    }

    /// Takes a request out without waiting for its handler.
    private mutating func abandon(_ key: Key) -> Entry? {
        guard let entry = remove(key) else { return nil }
        if entry.phase == .running { zombies.insert(key) }
        return entry
    }

    private mutating func remove(_ key: Key) -> Entry? {
        guard let entry = entries.removeValue(forKey: key) else { return nil }
        switch entry.phase {
        case .running: runningCount -= 1
        case .waiting: waitingCount -= 1
        case .following: break
        }
        let rest = counts[entry.channel, default: 1] - 1
        counts[entry.channel] = rest > 0 ? rest : nil
        deadlines.prune(to: entries.count) { [entries] in entries[$0.low] != nil }
        if line.count > 2 * entries.count + 64 {
            line = Deque(line.filter { entries[$0] != nil })
        }
        return entry
    }
}
