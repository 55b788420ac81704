import DequeModule
import RPCWire

/// The requests a receiver has taken on and not answered: which run, which wait for a place, and until when.
///
/// A pure value. Taking an entry out is the right to answer it, so a request is answered at most once whatever races: its
/// handler's end with its deadline, or with the loss of its channel.
struct RequestTable<Job: Sendable, ChannelID: Hashable & Sendable>: Sendable {
    /// Names a request within this receiver.
    typealias Key = UInt64

    private struct Entry: Sendable {
        let job: Job
        let channel: ChannelID
        var isRunning = false
    }

    private var entries: [Key: Entry] = [:]
    private var counts: [ChannelID: Int] = [:]
    private var line = Deque<Key>()
    private var deadlines = DeadlineHeap<Key>()
    private var lastKey: Key = 0
    private var isClosed = false
    private let concurrency: Int
    private(set) var runningCount = 0

    init(concurrency: Int) {
        self.concurrency = max(1, concurrency)
    }

    /// How many requests are not answered.
    var count: Int { entries.count }

    /// How many requests of a channel are not answered.
    func count(of channel: ChannelID) -> Int { counts[channel] ?? 0 }

    /// The next deadline to look at.
    var earliestDeadline: ContinuousClock.Instant? { deadlines.earliest }

    /// Takes a request on. `nil`: the table has ended, and the request is left to be redelivered.
    ///
    /// The line needs no bound of its own: a channel delivers no more than its prefetch before something is answered.
    mutating func accept(_ job: Job, from channel: ChannelID, deadline: ContinuousClock.Instant) -> Key? {
        guard !isClosed else { return nil }
        lastKey += 1
        entries[lastKey] = Entry(job: job, channel: channel)
        counts[channel, default: 0] += 1
        deadlines.insert(lastKey, at: deadline)
        line.append(lastKey)
        return lastKey
    }

    /// The next request to run, if there is a place for it.
    mutating func startNext() -> (Key, Job)? {
        guard runningCount < concurrency else { return nil }
        while let key = line.popFirst() {
            guard let entry = entries[key] else { continue }
            entries[key]?.isRunning = true
            runningCount += 1
            return (key, entry.job)
        }
        return nil
    }

    /// Takes a request out: its handler has ended. `nil`: it was answered or given up before.
    mutating func finish(_ key: Key) -> Job? {
        remove(key)
    }

    /// Takes out what is past its deadline. A handler that runs on does not hold its place any longer.
    mutating func expire(at now: ContinuousClock.Instant) -> [(key: Key, job: Job)] {
        var expired: [(key: Key, job: Job)] = []
        while let key = deadlines.popDue(at: now) {
            if let job = remove(key) { expired.append((key, job)) }
        }
        return expired
    }

    /// A channel is gone: its requests will be redelivered, and nobody may answer them here.
    mutating func closed(_ channel: ChannelID) -> [Key] {
        let gone = entries.filter { $0.value.channel == channel }.map(\.key)
        for key in gone { _ = remove(key) }
        return gone
    }

    /// The end: nothing is answered any more, nothing new is taken on.
    mutating func close() -> [Key] {
        isClosed = true
        let gone = Array(entries.keys)
        for key in gone { _ = remove(key) }
        return gone
    }

    private mutating func remove(_ key: Key) -> Job? {
        guard let entry = entries.removeValue(forKey: key) else { return nil }
        if entry.isRunning { runningCount -= 1 }
        let rest = counts[entry.channel, default: 1] - 1
        counts[entry.channel] = rest > 0 ? rest : nil
        deadlines.prune(to: entries.count) { [entries] in entries[$0] != nil }
        if line.count > 2 * entries.count + 64 {
            line = Deque(line.filter { entries[$0] != nil })
        }
        return entry.job
    }
}
