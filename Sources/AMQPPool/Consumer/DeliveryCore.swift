internal import ConcurrencyPrimitives
import DequeModule
import HeapModule
package import Supervision

/// What was delivered, as whoever handles it sees it. An object, so that the core and the runner move one pointer around and are not
/// generic: other modules could not specialize them.
package protocol DeliveredMessage: AnyObject, Sendable {}

/// Decides about every delivery: when it runs, when its time is over, and what the broker is told about it. Messages of consumers and
/// workers and requests of receivers are deliveries.
///
/// A pure value: it takes what happens and the time, and returns actions, which ``DeliveryRunner`` carries out in their order.
///
/// ```
///            ┌── key is busy, batch is not full ──┐         ┌──── pause ◀── retry ───┐
/// arrives ───┴──────────────▶ waiting ────────────┴─▶ ready ─┴─▶ running ────────────┤
///                                │                                │ │                ├─▶ publishing ─▶ settled
///                                └── given back at a stop         │ └ deadline:      └─▶ settled
///                                                                 │   cancelled, and a zombie until it ends
///                                                     its channel is lost: gone, the broker delivers it again
/// ```
///
/// Taking an entry out is the right to settle it, so a delivery is settled at most once whatever races.
package struct DeliveryCore: Sendable {
    /// Names a delivery within its runner.
    package typealias Key = UInt64
    /// Names one run of a handler.
    package typealias RunID = UInt64
    /// Names the channel a delivery came on.
    package typealias Source = UInt64

    package struct Settings: Sendable {
        /// How many handlers run at once.
        package var concurrency = 10
        /// How long a handler may run; nil for any time.
        package var timeLimit: Duration?
        /// How many messages are handled together, at the most.
        package var batchSize = 1
        /// How long the first message of a batch waits for others.
        package var batchDelay = Duration.zero
        /// Whether messages of one key are handled one after another. If not, keys only keep batches apart.
        package var isOrdered = true
        /// How many messages may begin in a time.
        package var rate: DeliveryRate?
        /// Stops handling when too many messages fail.
        package var killSwitch: KillSwitch?
        /// What follows from handlers that run on although their messages are given up.
        package var zombies = Zombies.limit
        /// How many deliveries may wait for a place, of those that may be refused. If nil, all wait.
        package var maximumWaiting: Int?
        /// The pauses between attempts to publish a message that was handled or given up.
        package var publishBackoff = Backoff(minimum: .milliseconds(100), maximum: .seconds(30), jitter: 0.5)

        package init() {}
    }

    /// What follows from handlers that run on although their messages are given up.
    package enum Zombies: Sendable, Hashable {
        /// Nobody says when they end, so they are not counted.
        case unknown
        /// They are counted, and whoever listens does something about it.
        case counted
        /// When there are more of them than places, nothing more begins.
        case limit
    }

    /// What the queue at the other end of a channel understands.
    package enum SourceKind: Sendable, Hashable {
        case queue
        /// It knows acknowledgements only.
        case stream
        /// It looks like a stream, and somebody is finding out.
        case undetermined
    }

    package struct Item: Sendable {
        package let key: Key
        package let message: any DeliveredMessage
        /// 1 for the first.
        package let attempt: Int
    }

    package enum Action: Sendable {
        case run(RunID, Item, rest: [Item])
        /// It has a place again, after ``suspended(_:at:_:)``.
        case resume(RunID)
        case cancel(RunID)
        /// The time of this message is over: ``decided(_:_:at:_:)`` says what becomes of it. `nil`: it never ran.
        case decide(Item, RunID?)
        /// Its channel is lost.
        case lost(Item, RunID?)
        case settle(any DeliverySource, tag: UInt64, Settlement)
        /// Whoever decided tells the broker.
        case carryOut(@Sendable () -> Void)
        indirect case publish(Key, Forward)
        /// Nobody needs to know any more what becomes of it: if it is not sent, it need not be.
        case withdraw(Key)
        /// Too large a share of the messages failed: nothing begins for this long.
        case tripped(for: Duration)
        /// Handling begins again after that.
        case recovered
        /// How many handlers run on although their messages are given up.
        case zombies(Int)
    }

    /// How publishing in place of a message has ended.
    package enum Publication: Sendable {
        case confirmed
        case failed
        /// It would fail each time: it is too large, or cannot be encoded.
        case impossible
    }

    private enum Next: Sendable {
        case retry
        case requeue
        indirect case publish(Forward, failures: Int)
    }

    private enum Phase: Sendable {
        /// For a place, its key, or the rest of its batch.
        case waiting
        case running(RunID)
        /// Waits for this to be due; the serial tells it from pauses before.
        case pausing(Next, serial: UInt64)
        indirect case publishing(Forward, failures: Int)
        /// Its time is over, and it is not decided yet what becomes of it.
        case undecided
        /// Decided, but not to be said before its source is known.
        case undetermined(Settlement)
    }

    private struct Entry: Sendable {
        let message: any DeliveredMessage
        let source: Source
        let tag: UInt64
        var partition: Int?
        var attempt: Int
        /// When its time is over.
        var due: Duration?
        var wasRun = false
        /// Others of its key wait until it is settled.
        var holdsKey = false
        /// It is given back in place of being run, or tried again here.
        var isLeaving = false
        var phase = Phase.waiting
    }

    private struct Run: Sendable {
        let first: Key
        let rest: [Key]
        /// The key whose others wait until it has ended.
        let partition: Int?
        var stage = Stage.running
    }

    /// How far a run is.
    package enum Stage: Sendable, Hashable {
        /// For a place.
        case waiting
        case running
        /// It has begun and waits, without a place, for something else than its own work.
        case suspended
        /// It has what it waited for, and waits for a place.
        case resuming
        /// It was suspended for what is there already.
        case released
        case zombie

        var hasPlace: Bool { self == .running || self == .released }
    }

    /// What is to have the next place.
    private enum Turn: Sendable {
        case begin(Run)
        case resume(RunID)
    }

    private struct SourceState: Sendable {
        var kind: SourceKind
        /// `nil`: whoever decides tells the broker.
        let target: (any DeliverySource)?
    }

    /// Messages of one key.
    private struct Partition: Sendable {
        /// Those that are ready, running, or will be tried again.
        var live = 0
        var zombies = 0
        var waiting = Deque<Key>()
        /// When the first that waits has waited long enough.
        var due: Duration?
    }

    /// Something to look at when its time has come, unless it has become something else by then.
    private struct Alarm: Sendable, Comparable {
        enum Subject: Sendable, Equatable {
            case pause(Key)
            case timeLimit(RunID)
            case deadline(Key)
        }

        let due: Duration
        let serial: UInt64
        let subject: Subject

        static func < (left: Alarm, right: Alarm) -> Bool {
            left.due == right.due ? left.serial < right.serial : left.due < right.due
        }
    }

    private enum Stopping: Sendable {
        case no
        /// Nothing new begins.
        case holding
        /// What has not begun is given back; with `finishing` it is handled.
        case draining(finishing: Bool)
    }

    private var settings: Settings
    /// The time of what happened last.
    private var now = Duration.zero
    private var entries: [Key: Entry] = [:]
    private var sources: [Source: SourceState] = [:]
    private var runs: [RunID: Run] = [:]
    private var ready = Deque<Turn>()
    /// By key. Those without one are under nil, where batches are collected.
    private var partitions: [Int?: Partition] = [:]
    private var alarms = Heap<Alarm>()
    private var lastKey: Key = 0
    private var lastRun: RunID = 0
    private var lastSerial: UInt64 = 0
    private var runningCount = 0
    private var waitingCount = 0
    private var hasEnded = false
    private var stopping = Stopping.no
    private var isPaused = false
    private var tokens: DeliveryRate.Tokens?
    private var trippedUntil: Duration?
    package private(set) var zombieCount = 0

    package init(_ settings: Settings) {
        self.settings = settings
        tokens = settings.rate.map { DeliveryRate.Tokens($0) }
    }

    /// How many deliveries are not settled.
    package var count: Int { entries.count }

    /// How many handlers run whose messages are not given up.
    package var running: Int { runningCount }

    /// How many deliveries wait for a place.
    package var waiting: Int { waitingCount }

    /// How far a run is; `nil` when it has ended, or nobody waits for its end.
    package func stage(of run: RunID) -> Stage? { runs[run]?.stage }

    /// Whether this is published, and nobody has said how that ended.
    package func isPublishing(_ key: Key) -> Bool {
        if case .publishing? = entries[key]?.phase { true } else { false }
    }

    /// The deliveries that came first. Walks all.
    package func oldest(_ limit: Int) -> [(message: any DeliveredMessage, stage: Stage)] {
        entries.keys.sorted().prefix(max(0, limit)).compactMap { key in
            guard let entry = entries[key] else { return nil }
            guard case .running(let run) = entry.phase else { return (entry.message, .waiting) }
            return (entry.message, stage(of: run) ?? .running)
        }
    }

    package func look(at time: Duration) -> DeliveryLook {
        var look = DeliveryLook()
        look.isPaused = isPaused
        look.tripped = trippedUntil.map { max(.zero, $0 - time) }
        look.concurrency = settings.concurrency
        look.rate = settings.rate
        look.running = runningCount
        look.unsettled = count
        look.zombies = zombieCount
        return look
    }

    /// Whether it still waits to hear about a delivery of this source.
    package func isIdle(_ source: Source) -> Bool { !entries.values.contains { $0.source == source } }

    /// Whether all that is here waits: nothing is being handled, and nothing is on its way to the broker.
    package var isResting: Bool {
        !entries.values.contains { entry in
            switch entry.phase {
            case .running, .publishing, .undecided, .undetermined: true
            case .waiting, .pausing: false
            }
        }
    }

    // MARK: Inputs

    /// A channel begins to deliver.
    ///
    /// - Parameter target: who is told what becomes of its deliveries. `nil`: whoever decides tells the broker.
    package mutating func opened(_ source: Source, _ kind: SourceKind, for target: (any DeliverySource)?) {
        guard !hasEnded else { return }
        sources[source] = SourceState(kind: kind, target: target)
    }

    package func kind(of source: Source) -> SourceKind? { sources[source]?.kind }

    /// What a source is has been found out, or is being found out.
    package mutating func determined(_ source: Source, _ kind: SourceKind, at time: Duration, _ actions: inout [Action])
    {
        guard sources[source] != nil else { return }
        now = time
        sources[source]?.kind = kind
        guard kind != .undetermined else { return }
        for key in entries.keys.sorted() where entries[key]?.source == source {
            // Nothing goes back to a stream.
            if kind == .stream { change(key) { $0.isLeaving = false } }
            if case .undetermined(let settlement)? = entries[key]?.phase { settle(key, settlement, &actions) }
        }
        startReady(&actions)
    }

    /// A message was delivered.
    ///
    /// - Parameters:
    ///   - partition: the messages of one are handled one after another, or in batches of their own.
    ///   - attempt: which attempt this is, with those that are known from before.
    ///   - timeLeft: after how long its time is over, whether it has begun by then or waits. It never begins after that.
    ///   - mayBeRefused: whether it is one of those that ``Settings/maximumWaiting`` is for.
    ///   - disposition: what becomes of it without being handled, if that is known already.
    /// - Returns: `false` when it is refused: too many wait.
    package mutating func arrived(
        _ message: any DeliveredMessage,
        from source: Source,
        tag: UInt64,
        partition: Int? = nil,
        attempt: Int = 1,
        timeLeft: Duration? = nil,
        mayBeRefused: Bool = false,
        disposition: Disposition? = nil,
        at time: Duration,
        _ actions: inout [Action]
    ) -> Bool {
        // What comes behind the loss of its channel is delivered again.
        guard sources[source] != nil else { return true }
        if mayBeRefused, let limit = settings.maximumWaiting, runningCount >= settings.concurrency,
            waitingCount >= limit
        {
            return false
        }
        now = time
        lastKey += 1
        let key = lastKey
        entries[key] = Entry(message: message, source: source, tag: tag, partition: partition, attempt: attempt)
        waitingCount += 1
        if case .draining = stopping {
            settle(key, .giveBack, &actions)
        } else if let disposition {
            change(key) { $0.wasRun = true }
            apply(disposition, to: key, &actions)
        } else {
            if let timeLeft { setAlarm(.deadline(key), after: timeLeft) }
            enqueue(key, partition, &actions)
            startReady(&actions)
        }
        return true
    }

    /// A handler has ended.
    ///
    /// - Parameter dispositions: what becomes of its messages, by their place in the run. One that is not there was not handled.
    package mutating func ended(
        _ id: RunID,
        _ dispositions: Dispositions,
        at time: Duration,
        _ actions: inout [Action]
    ) {
        guard let run = runs.removeValue(forKey: id) else { return }
        now = time
        if run.stage == .zombie {
            zombieCount -= 1
            actions.append(.zombies(zombieCount))
            if let partition = run.partition {
                partitions[partition]?.zombies -= 1
                advance(partition, &actions)
            }
        } else {
            if run.stage.hasPlace { runningCount -= 1 }
            if run.stage == .resuming { waitingCount -= 1 }
            conclude(run.first, of: id, dispositions.first, &actions)
            for (key, index) in zip(run.rest, 0...) {
                conclude(key, of: id, index < dispositions.rest.count ? dispositions.rest[index] : nil, &actions)
            }
        }
        startReady(&actions)
    }

    private mutating func conclude(
        _ key: Key,
        of run: RunID,
        _ disposition: Disposition?,
        _ actions: inout [Action]
    ) {
        guard case .running(run)? = entries[key]?.phase else { return }
        let disposition = disposition ?? .requeue(after: .zero)
        record(disposition, &actions)
        apply(disposition, to: key, &actions)
    }

    /// A handler waits for something else than its own work: others have its place meanwhile.
    package mutating func suspended(_ id: RunID, at time: Duration, _ actions: inout [Action]) {
        now = time
        switch runs[id]?.stage {
        case .running:
            runs[id]?.stage = .suspended
            runningCount -= 1
            startReady(&actions)
        case .released:
            runs[id]?.stage = .running
            actions.append(.resume(id))
        case .waiting, .suspended, .resuming, .zombie, nil: break
        }
    }

    /// What a handler waits for is there, or will have been when it waits: it goes on when it has a place.
    package mutating func released(_ id: RunID, at time: Duration, _ actions: inout [Action]) {
        now = time
        switch runs[id]?.stage {
        case .running: runs[id]?.stage = .released
        case .suspended:
            runs[id]?.stage = .resuming
            waitingCount += 1
            ready.append(.resume(id))
            startReady(&actions)
        case .waiting, .resuming, .released, .zombie, nil: break
        }
    }

    /// What becomes of a message whose time is over.
    package mutating func decided(
        _ key: Key,
        _ disposition: Disposition,
        at time: Duration,
        _ actions: inout [Action]
    ) {
        guard case .undecided? = entries[key]?.phase else { return }
        now = time
        // Who has it tried again although its time is over gives it time.
        if let due = entries[key]?.due, due <= now { change(key) { $0.due = nil } }
        record(disposition, &actions)
        apply(disposition, to: key, &actions)
        startReady(&actions)
    }

    /// Publishing in place of a message has ended.
    package mutating func published(
        _ key: Key,
        _ publication: Publication,
        at time: Duration,
        _ actions: inout [Action]
    ) {
        guard case .publishing(let forward, let failures)? = entries[key]?.phase else { return }
        now = time
        switch publication {
        case .confirmed: settle(key, .acknowledge, &actions)
        case .impossible: settle(key, .reject, &actions)
        case .failed where isStopping: settle(key, .requeue, &actions)
        case .failed:
            let delay = settings.publishBackoff.delay(afterFailures: failures + 1, random: .random(in: 0..<1))
            pause(key, .publish(forward, failures: failures + 1), for: delay)
        }
        startReady(&actions)
    }

    /// A channel is lost: its deliveries come again, and nobody may settle them.
    ///
    /// - Returns: The tags of those whose handling had begun.
    @discardableResult
    package mutating func closed(_ source: Source, at time: Duration, _ actions: inout [Action]) -> [UInt64] {
        guard sources.removeValue(forKey: source) != nil else { return [] }
        now = time
        var interrupted: Set<RunID> = []
        var begun: [UInt64] = []
        for (key, entry) in entries where entry.source == source {
            if entry.wasRun { begun.append(entry.tag) }
            var run: RunID?
            switch entry.phase {
            case .running(let id): run = id
            case .publishing: actions.append(.withdraw(key))
            case .waiting, .pausing, .undecided, .undetermined: break
            }
            remove(key, &actions)
            if let run { interrupted.insert(run) }
            actions.append(.lost(Item(key: key, message: entry.message, attempt: entry.attempt), run))
        }
        for id in interrupted where !hasLiveMessage(id) { abandon(id, &actions) }
        startReady(&actions)
        return begun
    }

    /// Time has passed: see ``nextWake``.
    package mutating func tick(at time: Duration, _ actions: inout [Action]) {
        now = time
        if let until = trippedUntil, until <= now {
            trippedUntil = nil
            settings.killSwitch?.reset()
            actions.append(.recovered)
        }
        while let alarm = alarms.min, alarm.due <= now || !isCurrent(alarm) {
            alarms.removeMin()
            guard isCurrent(alarm) else { continue }
            switch alarm.subject {
            case .pause(let key): resume(key, &actions)
            case .timeLimit(let run): expire(run, &actions)
            case .deadline(let key): expire(delivery: key, &actions)
            }
        }
        for (partition, state) in partitions where state.due.map({ $0 <= now }) ?? false {
            advance(partition, &actions)
        }
        startReady(&actions)
    }

    /// When ``tick(at:_:)`` is to be called next.
    package var nextWake: Duration? {
        var next = alarms.min?.due
        func consider(_ due: Duration?) {
            if let due, next.map({ due < $0 }) ?? true { next = due }
        }
        consider(trippedUntil)
        if settings.batchSize > 1 {
            for (partition, state) in partitions where isFree(state, partition) { consider(state.due) }
        }
        if !ready.isEmpty { consider(tokens?.nextDue) }
        return next
    }

    /// The end: nothing is settled any more, and nothing new comes in.
    package mutating func closeAll(at time: Duration, _ actions: inout [Action]) {
        hasEnded = true
        for source in Array(sources.keys) { closed(source, at: time, &actions) }
    }

    /// Begins nothing more. What comes waits until it is given back, or ``release(at:_:)``.
    package mutating func hold() {
        if case .no = stopping { stopping = .holding }
    }

    /// Ends ``hold()``.
    package mutating func release(at time: Duration, _ actions: inout [Action]) {
        now = time
        if case .holding = stopping { stopping = .no }
        startReady(&actions)
    }

    /// Gives back what is not being handled, in the order in which it came. No consumer may be there any more: the broker would deliver it
    /// here again. What waits for another message of its key follows when that is settled, since it may have to go back first.
    ///
    /// - Parameter source: whose deliveries, for good; nil is all for the moment. A stream takes nothing back: what is here of it is handled
    ///   later, or comes again with the next consumer if there is none here any more.
    package mutating func giveBack(_ source: Source? = nil, _ actions: inout [Action]) {
        for key in entries.keys.sorted() {
            guard let entry = entries[key], source == nil || entry.source == source else { continue }
            if sources[entry.source]?.kind == .stream, source == nil, !isStopping { continue }
            if source != nil { change(key) { $0.isLeaving = true } }
            switch entry.phase {
            case .publishing, .undetermined: break
            case .running, .undecided: change(key) { $0.isLeaving = true }
            case .waiting where isBehindOthers(entry): change(key) { $0.isLeaving = true }
            case .waiting: leave(key, &actions)
            case .pausing: settle(key, .requeue, &actions)
            }
        }
    }

    /// A message that waits goes back.
    private mutating func leave(_ key: Key, _ actions: inout [Action]) {
        settle(key, entries[key]?.wasRun == true ? .requeue : .giveBack, &actions)
    }

    /// Stops for good. What waits is given back, or with `finishing` handled.
    package mutating func drain(finishing: Bool, at time: Duration, _ actions: inout [Action]) {
        now = time
        stopping = .draining(finishing: finishing)
        guard finishing else { return giveBack(nil, &actions) }
        for key in entries.keys.sorted() {
            if case .pausing? = entries[key]?.phase { settle(key, .requeue, &actions) }
        }
        for partition in Array(partitions.keys) { advance(partition, &actions) }
        startReady(&actions)
    }

    /// Begins no handler, or begins them again.
    package mutating func setPaused(_ paused: Bool, at time: Duration, _ actions: inout [Action]) {
        now = time
        isPaused = paused
        startReady(&actions)
    }

    /// How many handlers run at once from now on. Those that run stay.
    package mutating func setConcurrency(_ concurrency: Int, at time: Duration, _ actions: inout [Action]) {
        now = time
        settings.concurrency = max(1, concurrency)
        startReady(&actions)
    }

    /// How many messages may begin in a time from now on.
    package mutating func setRate(_ rate: DeliveryRate?, at time: Duration, _ actions: inout [Action]) {
        now = time
        settings.rate = rate
        tokens = rate.map { DeliveryRate.Tokens($0) }
        startReady(&actions)
    }

    /// Settings and errors of handlers say how long, so it is brought into bounds.
    private func time(after delay: Duration) -> Duration { now + delay.bounded }

    // MARK: Waiting

    private var isStopping: Bool {
        if case .no = stopping { false } else { true }
    }

    private var isFinishing: Bool {
        if case .draining(finishing: true) = stopping { true } else { false }
    }

    private func isFree(_ state: Partition, _ partition: Int?) -> Bool {
        !settings.isOrdered || partition == nil || (state.live == 0 && state.zombies == 0)
    }

    /// Whether another message of its key is being dealt with.
    private func isBehindOthers(_ entry: Entry) -> Bool {
        settings.isOrdered && entry.partition != nil && !entry.holdsKey && partitions[entry.partition]?.live ?? 0 > 0
    }

    private mutating func enqueue(_ key: Key, _ partition: Int?, _ actions: inout [Action]) {
        guard settings.batchSize > 1 || (partition != nil && settings.isOrdered) else {
            ready.append(.begin(Run(first: key, rest: [], partition: nil)))
            return
        }
        partitions[partition, default: Partition()].waiting.append(key)
        if settings.batchSize > 1, partitions[partition]?.due == nil {
            let due = time(after: settings.batchDelay)
            partitions[partition]?.due = due
        }
        advance(partition, &actions)
    }

    /// Makes what waits under a key ready, if it is its turn, or gives it back.
    private mutating func advance(_ partition: Int?, _ actions: inout [Action]) {
        while let state = partitions[partition], state.live == 0, let first = firstWaiting(of: state),
            entries[first]?.isLeaving == true
        {
            leave(first, &actions)
        }
        guard var state = partitions[partition] else { return }
        let holdsKey = settings.isOrdered && partition != nil
        while isFree(state, partition), let first = firstWaiting(of: state) {
            let isDue = state.due.map { $0 <= now } ?? true
            guard state.waiting.count >= settings.batchSize || isDue || isFinishing else { break }
            let size = min(state.waiting.count, max(1, settings.batchSize))
            let rest = size > 1 ? Array(state.waiting.prefix(size).dropFirst()) : []
            state.waiting.removeFirst(size)
            if holdsKey {
                state.live += size
                for key in [first] + rest { change(key) { $0.holdsKey = true } }
            }
            ready.append(.begin(Run(first: first, rest: rest, partition: holdsKey ? partition : nil)))
            state.due = settings.batchSize > 1 && !state.waiting.isEmpty ? time(after: settings.batchDelay) : nil
        }
        set(state, of: partition)
    }

    /// The first that waits, unless what becomes of it is decided and cannot be said yet: then the others wait for that.
    private func firstWaiting(of state: Partition) -> Key? {
        guard let first = state.waiting.first, case .waiting? = entries[first]?.phase else { return nil }
        return first
    }

    private mutating func set(_ state: Partition, of partition: Int?) {
        var state = state
        if state.waiting.isEmpty { state.due = nil }
        let isOver = state.waiting.isEmpty && state.live == 0 && state.zombies == 0
        partitions[partition] = isOver ? nil : state
    }

    private mutating func startReady(_ actions: inout [Action]) {
        while !ready.isEmpty, mayStart(), let next = ready.popFirst() {
            switch next {
            case .begin(let run): start(run, &actions)
            case .resume(let id):
                guard runs[id]?.stage == .resuming else { continue }
                runs[id]?.stage = .running
                waitingCount -= 1
                runningCount += 1
                actions.append(.resume(id))
            }
        }
    }

    private mutating func mayStart() -> Bool {
        switch stopping {
        case .no, .draining(finishing: true): break
        case .holding, .draining(finishing: false): return false
        }
        guard !isPaused, trippedUntil == nil else { return false }
        guard runningCount < settings.concurrency else { return false }
        // Zombies take no place, but more of them than there are places stop the rest until some have ended.
        if settings.zombies == .limit, zombieCount > settings.concurrency { return false }
        return tokens?.hasOne(at: now) ?? true
    }

    private mutating func start(_ next: Run, _ actions: inout [Action]) {
        let id = lastRun + 1
        var run = next
        let first: Item
        var rest: [Item] = []
        if next.rest.isEmpty {
            guard let item = begin(next.first, id) else { return }
            first = item
        } else {
            // Of a batch that waited for a place, some may have gone with their channel.
            var items = ([next.first] + next.rest).compactMap { begin($0, id) }
            guard !items.isEmpty else { return }
            first = items.removeFirst()
            rest = items
            run = Run(first: first.key, rest: rest.map(\.key), partition: next.partition)
        }
        lastRun = id
        runs[id] = run
        runningCount += 1
        tokens?.take(1 + rest.count, at: now)
        if let limit = settings.timeLimit { setAlarm(.timeLimit(id), after: limit) }
        actions.append(.run(id, first, rest: rest))
    }

    private mutating func begin(_ key: Key, _ run: RunID) -> Item? {
        guard let entry = entries[key], case .waiting = entry.phase else { return nil }
        // The alarm may be late.
        if let due = entry.due, due <= now { return nil }
        change(key) {
            $0.phase = .running(run)
            $0.wasRun = true
        }
        waitingCount -= 1
        return Item(key: key, message: entry.message, attempt: entry.attempt)
    }

    // MARK: Settling

    private mutating func record(_ disposition: Disposition, _ actions: inout [Action]) {
        guard settings.killSwitch != nil, trippedUntil == nil else { return }
        let isSuccess = if case .acknowledge = disposition { true } else { false }
        guard let pause = settings.killSwitch?.record(isSuccess: isSuccess, at: now) else { return }
        trippedUntil = time(after: pause)
        actions.append(.tripped(for: pause))
    }

    private mutating func apply(_ disposition: Disposition, to key: Key, _ actions: inout [Action]) {
        switch disposition {
        case .acknowledge: settle(key, .acknowledge, &actions)
        case .reject: settle(key, .reject, &actions)
        case .requeue(let delay):
            if isStopping || delay <= .zero || entries[key]?.isLeaving == true {
                settle(key, .requeue, &actions)
            } else {
                pause(key, .requeue, for: delay)
            }
        case .retry(let delay):
            if case .draining = stopping { return settle(key, .requeue, &actions) }
            if entries[key]?.isLeaving == true { return settle(key, .requeue, &actions) }
            change(key) { $0.attempt += 1 }
            pause(key, .retry, for: delay)
        case .forward(let forward):
            leaveLine(key)
            change(key) { $0.phase = .publishing(forward, failures: 0) }
            actions.append(.publish(key, forward))
        case .settled(let settle):
            actions.append(.carryOut(settle))
            remove(key, &actions)
        }
    }

    private mutating func settle(_ key: Key, _ settlement: Settlement, _ actions: inout [Action]) {
        guard let entry = entries[key] else { return }
        let source = sources[entry.source]
        func say(_ settlement: Settlement) {
            if let target = source?.target { actions.append(.settle(target, tag: entry.tag, settlement)) }
            remove(key, &actions)
        }
        switch (settlement, source?.kind) {
        case (.acknowledge, _), (.reject, .queue), (_, nil): say(settlement)
        case (.requeue, .queue), (.giveBack, .queue):
            // What waits behind it, by its key, must not pass it.
            if settings.isOrdered, entry.partition != nil, let waiting = partitions[entry.partition]?.waiting {
                for next in waiting.reversed() where next > key && entries[next]?.source == entry.source {
                    // And so does all before it.
                    if entries[next]?.isLeaving == true { break }
                    change(next) { $0.isLeaving = true }
                }
            }
            say(settlement)
        case (.reject, .stream): say(.acknowledge)
        // A stream delivers nothing again: it is tried again here, unless nothing is any more.
        case (.requeue, .stream), (.giveBack, .stream):
            if isStopping || entry.isLeaving { return remove(key, &actions) }
            if case .requeue = settlement { change(key) { $0.attempt += 1 } }
            makeReady(key, &actions)
        case (_, .undetermined):
            leaveLine(key)
            change(key) { $0.phase = .undetermined(settlement) }
        }
    }

    /// A delivery that waits for a place becomes something else.
    private mutating func leaveLine(_ key: Key) {
        if case .waiting? = entries[key]?.phase { waitingCount -= 1 }
    }

    private mutating func makeReady(_ key: Key, _ actions: inout [Action]) {
        leaveLine(key)
        change(key) { $0.phase = .waiting }
        waitingCount += 1
        let partition = entries[key]?.partition
        if entries[key]?.holdsKey != true, partitions[partition]?.waiting.contains(key) == true {
            return advance(partition, &actions)
        }
        // It holds its key, but an attempt before may not have ended: never do two of one key run at once.
        if entries[key]?.holdsKey == true, let zombies = partitions[partition]?.zombies, zombies > 0 {
            change(key) { $0.holdsKey = false }
            partitions[partition]?.live -= 1
            partitions[partition]?.waiting.prepend(key)
            return
        }
        ready.append(.begin(Run(first: key, rest: [], partition: settings.isOrdered ? partition : nil)))
    }

    private mutating func pause(_ key: Key, _ next: Next, for delay: Duration) {
        leaveLine(key)
        let serial = lastSerial + 1
        change(key) { $0.phase = .pausing(next, serial: serial) }
        setAlarm(.pause(key), after: delay)
    }

    private mutating func resume(_ key: Key, _ actions: inout [Action]) {
        guard case .pausing(let next, _)? = entries[key]?.phase else { return }
        switch next {
        case .requeue: settle(key, .requeue, &actions)
        case .retry: makeReady(key, &actions)
        case .publish(let forward, let failures):
            change(key) { $0.phase = .publishing(forward, failures: failures) }
            actions.append(.publish(key, forward))
        }
    }

    // MARK: Time

    private mutating func setAlarm(_ subject: Alarm.Subject, after delay: Duration) {
        let due = time(after: delay)
        if case .deadline(let key) = subject { change(key) { $0.due = due } }
        lastSerial += 1
        alarms.insert(Alarm(due: due, serial: lastSerial, subject: subject))
        // What ends before its time is not searched for.
        if alarms.count > 2 * entries.count + 64 {
            alarms = Heap(alarms.unordered.filter { isCurrent($0) })
        }
    }

    private func isCurrent(_ alarm: Alarm) -> Bool {
        switch alarm.subject {
        case .pause(let key):
            if case .pausing(_, alarm.serial)? = entries[key]?.phase { true } else { false }
        case .timeLimit(let run): runs[run].map { $0.stage != .zombie } ?? false
        case .deadline(let key): entries[key]?.due == alarm.due
        }
    }

    private mutating func expire(_ id: RunID, _ actions: inout [Action]) {
        guard let run = runs[id], run.stage != .zombie else { return }
        abandon(id, &actions)
        for key in [run.first] + run.rest {
            guard let entry = entries[key], case .running(id) = entry.phase else { continue }
            change(key) { $0.phase = .undecided }
            actions.append(.decide(Item(key: key, message: entry.message, attempt: entry.attempt), id))
        }
    }

    /// The time of a delivery is over, wherever it is.
    private mutating func expire(delivery key: Key, _ actions: inout [Action]) {
        guard let entry = entries[key] else { return }
        let item = Item(key: key, message: entry.message, attempt: entry.attempt)
        switch entry.phase {
        case .waiting:
            if let index = partitions[entry.partition]?.waiting.firstIndex(of: key) {
                partitions[entry.partition]?.waiting.remove(at: index)
                // It holds nothing of its key.
                change(key) { $0.partition = nil }
            }
            leaveLine(key)
            change(key) { $0.phase = .undecided }
            actions.append(.decide(item, nil))
        case .running(let id):
            change(key) { $0.phase = .undecided }
            if !hasLiveMessage(id) { abandon(id, &actions) }
            actions.append(.decide(item, id))
        case .pausing(.retry, _):
            change(key) { $0.phase = .undecided }
            actions.append(.decide(item, nil))
        // What becomes of it is decided.
        case .pausing(.requeue, _), .pausing(.publish, _), .publishing, .undecided, .undetermined: break
        }
    }

    /// Does not wait for a handler any longer. It holds its key until it ends.
    private mutating func abandon(_ id: RunID, _ actions: inout [Action]) {
        guard let run = runs[id], run.stage != .zombie else { return }
        if run.stage == .resuming { waitingCount -= 1 }
        if run.stage.hasPlace { runningCount -= 1 }
        actions.append(.cancel(id))
        // One that waits for others ends at once when it is cancelled.
        guard settings.zombies != .unknown, run.stage.hasPlace else {
            runs[id] = nil
            return
        }
        runs[id]?.stage = .zombie
        zombieCount += 1
        if let partition = run.partition { partitions[partition, default: Partition()].zombies += 1 }
        actions.append(.zombies(zombieCount))
    }

    private func hasLiveMessage(_ id: RunID) -> Bool {
        guard let run = runs[id] else { return false }
        return ([run.first] + run.rest).contains { key in
            if case .running(id)? = entries[key]?.phase { true } else { false }
        }
    }

    /// In place: an optional chain through the subscript allocates each time.
    private mutating func change(_ key: Key, _ body: (inout Entry) -> Void) {
        if let index = entries.index(forKey: key) { body(&entries.values[index]) }
    }

    private mutating func remove(_ key: Key, _ actions: inout [Action]) {
        guard let entry = entries.removeValue(forKey: key) else { return }
        if case .waiting = entry.phase { waitingCount -= 1 }
        if ready.count > 2 * entries.count + 64 {
            ready = Deque(
                ready.filter { turn in
                    switch turn {
                    case .begin(let run): ([run.first] + run.rest).contains { entries[$0] != nil }
                    case .resume(let id): runs[id] != nil
                    }
                }
            )
        }
        if entry.holdsKey {
            partitions[entry.partition]?.live -= 1
            advance(entry.partition, &actions)
            return
        }
        switch entry.phase {
        case .waiting, .undetermined:
            guard var state = partitions[entry.partition], let index = state.waiting.firstIndex(of: key) else { return }
            state.waiting.remove(at: index)
            set(state, of: entry.partition)
            if case .undetermined = entry.phase { advance(entry.partition, &actions) }
        case .running, .pausing, .publishing, .undecided: break
        }
    }
}
