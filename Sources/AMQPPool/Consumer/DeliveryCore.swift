internal import ConcurrencyPrimitives
import DequeModule
import HeapModule
import Supervision

/// A delivered message, as seen by its handler. An object, so that the core and the runner pass one pointer and need not be generic: other
/// modules could not specialize them.
package protocol DeliveredMessage: AnyObject, Sendable {}

/// Decides about every delivery: when it runs, when its time limit passes, and how it is settled. Messages of consumers and workers and
/// requests of receivers are deliveries.
///
/// A pure value: inputs and the time in, actions out, which ``DeliveryRunner`` performs in order.
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
/// Only the removal of an entry settles it, so a delivery is settled at most once, whatever races.
package struct DeliveryCore: Sendable {
    /// Identifies a delivery within its runner.
    package typealias Key = UInt64
    /// Identifies one run of a handler.
    package typealias RunID = UInt64
    /// Identifies the channel of a delivery.
    package typealias Source = UInt64

    package struct Settings: Sendable {
        /// How many handlers run concurrently.
        package var concurrency = 10
        /// The time limit of a handler; `nil` for none.
        package var timeLimit: Duration?
        /// The maximum number of messages handled together.
        package var batchSize = 1
        /// How long the first message of a batch waits for others.
        package var batchDelay = Duration.zero
        /// Whether messages of one key are handled one after another. Otherwise keys only separate batches.
        package var isOrdered = true
        /// How many messages may start per interval.
        package var rate: DeliveryRate?
        /// Pauses handling when too many messages fail.
        package var killSwitch: KillSwitch?
        /// The effect of handlers that keep running after their messages were given up.
        package var zombies = Zombies.limit
        /// The limit of waiting deliveries, among those that may be refused; `nil` for no limit.
        package var maximumWaiting: Int?
        /// The delays between attempts to publish a message that was handled or given up.
        var publishBackoff = Backoff(minimum: .milliseconds(100), maximum: .seconds(30), jitter: 0.5)

        package init() {}
    }

    /// The effect of handlers that keep running after their messages were given up.
    package enum Zombies: Sendable, Hashable {
        /// Nobody reports their end, so they are not counted.
        case unknown
        /// They are counted, and the listener acts on the count.
        case counted
        /// When there are more of them than slots, nothing more starts.
        case limit
    }

    /// Which settlements the queue behind a channel supports.
    package enum SourceKind: Sendable, Hashable {
        case queue
        /// It supports acknowledgements only.
        case stream
        /// It looks like a stream, and is being checked.
        case undetermined
    }

    package struct Item: Sendable {
        let key: Key
        package let message: any DeliveredMessage
        /// 1 for the first attempt.
        package let attempt: Int
    }

    package enum Action: Sendable {
        case run(RunID, Item, rest: [Item])
        /// It has a slot again, after ``suspended(_:at:_:)``.
        case resume(RunID)
        case cancel(RunID)
        /// The time limit of this message has passed: ``decided(_:_:at:_:)`` decides about it. `nil`: it never ran.
        case decide(Item, RunID?)
        /// Its channel is lost.
        case lost(Item, RunID?)
        case settle(any DeliverySource, tag: UInt64, Settlement)
        /// The decider settles the delivery itself.
        case carryOut(@Sendable () -> Void)
        indirect case publish(Key, Forward)
        /// Nobody needs the outcome any more: if the message has not been sent, it need not be.
        case withdraw(Key)
        /// Too large a share of the messages failed: nothing starts for this long.
        case tripped(for: Duration)
        /// Handling starts again after that.
        case recovered
        /// The number of handlers that are running after their messages were given up.
        case zombies(Int)
    }

    /// The outcome of publishing a message instead of a delivered one.
    enum Publication: Sendable {
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
        /// Waiting for a slot, for its key, or for the rest of its batch.
        case waiting
        case running(RunID)
        /// Waiting for this to be due; the serial distinguishes it from earlier delays.
        case pausing(Next, serial: UInt64)
        indirect case publishing(Forward, failures: Int)
        /// Its time limit has passed, and the decision is pending.
        case undecided
        /// Decided, but the settlement waits until the kind of its source is known.
        case undetermined(Settlement)
    }

    private struct Entry: Sendable {
        let message: any DeliveredMessage
        let source: Source
        let tag: UInt64
        var partition: Int?
        var attempt: Int
        /// When its time limit passes.
        var due: Duration?
        var wasRun = false
        /// Others with its key wait until it is settled.
        var holdsKey = false
        /// It is returned to the broker instead of being run or retried.
        var isReturning = false
        var phase = Phase.waiting
    }

    private struct Run: Sendable {
        let first: Key
        let rest: [Key]
        /// The key whose other messages wait until it has ended.
        let partition: Int?
        var stage = Stage.running
    }

    /// The stage of a run.
    package enum Stage: Sendable, Hashable {
        /// Waiting for a slot.
        case waiting
        case running
        /// It has started, and waits, without a slot, for something other than its own work.
        case suspended
        /// Its wait is over, and it waits for a slot.
        case resuming
        /// It was released before it was suspended.
        case released
        case zombie

        var hasPlace: Bool { self == .running || self == .released }
    }

    /// The candidate for the next slot.
    private enum Turn: Sendable {
        case begin(Run)
        case resume(RunID)
    }

    private struct SourceState: Sendable {
        var kind: SourceKind
        /// `nil`: the decider settles the delivery itself.
        let target: (any DeliverySource)?
    }

    /// The messages of one key.
    private struct Partition: Sendable {
        /// The number of messages that are ready, running, or waiting for a retry.
        var live = 0
        var zombies = 0
        var waiting = Deque<Key>()
        /// When the first waiting message has waited long enough.
        var due: Duration?
    }

    /// A deadline to check, unless it has become obsolete by then.
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
        /// Nothing new starts.
        case startingNothing
        /// Deliveries that have not started are returned to the broker or, with `finishing`, handled.
        case draining(finishing: Bool)
    }

    private var settings: Settings
    /// The time of the last input.
    private var now = Duration.zero
    private var entries: [Key: Entry] = [:]
    private var sources: [Source: SourceState] = [:]
    private var runs: [RunID: Run] = [:]
    private var ready = Deque<Turn>()
    /// By key. Messages without a key are under `nil`, where batches are collected.
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

    init(_ settings: Settings) {
        self.settings = settings
        tokens = settings.rate.map { DeliveryRate.Tokens($0) }
    }

    /// The number of unsettled deliveries.
    var count: Int { entries.count }

    /// The number of running handlers whose messages have not been given up.
    var running: Int { runningCount }

    /// The number of deliveries that wait for a slot.
    var waiting: Int { waitingCount }

    /// The stage of a run; `nil` when it has ended or been abandoned.
    func stage(of run: RunID) -> Stage? { runs[run]?.stage }

    /// Whether this is being published, without an outcome so far.
    func isPublishing(_ key: Key) -> Bool {
        if case .publishing? = entries[key]?.phase { true } else { false }
    }

    /// The oldest deliveries. Walks all.
    func oldest(_ limit: Int) -> [(message: any DeliveredMessage, stage: Stage)] {
        entries.keys.sorted().prefix(max(0, limit)).compactMap { key in
            guard let entry = entries[key] else { return nil }
            guard case .running(let run) = entry.phase else { return (entry.message, .waiting) }
            return (entry.message, stage(of: run) ?? .running)
        }
    }

    func look(at time: Duration) -> DeliveryLook {
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

    /// Whether it has no unsettled delivery of this source.
    func isIdle(_ source: Source) -> Bool { !entries.values.contains { $0.source == source } }

    /// Whether all deliveries wait: none is being handled or settled.
    var isResting: Bool {
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
    /// - Parameter target: Receives the settlements of its deliveries. `nil`: the decider settles them itself.
    mutating func opened(_ source: Source, _ kind: SourceKind, for target: (any DeliverySource)?) {
        guard !hasEnded else { return }
        sources[source] = SourceState(kind: kind, target: target)
    }

    func kind(of source: Source) -> SourceKind? { sources[source]?.kind }

    /// The kind of a source has been determined, or is being determined.
    mutating func determined(_ source: Source, _ kind: SourceKind, at time: Duration, _ actions: inout [Action]) {
        guard sources[source] != nil else { return }
        now = time
        sources[source]?.kind = kind
        guard kind != .undetermined else { return }
        for key in entries.keys.sorted() where entries[key]?.source == source {
            // Nothing can be returned to a stream.
            if kind == .stream { change(key) { $0.isReturning = false } }
            if case .undetermined(let settlement)? = entries[key]?.phase { settle(key, settlement, &actions) }
        }
        startReady(&actions)
    }

    /// A message was delivered.
    ///
    /// - Parameters:
    ///   - partition: Messages of one partition are handled one after another, or in separate batches.
    ///   - attempt: The number of the attempt, including known earlier ones.
    ///   - timeLeft: After this time its time limit passes, whether it is running or waiting. It never starts after that.
    ///   - mayBeRefused: Whether ``Settings/maximumWaiting`` applies to it.
    ///   - disposition: The decision about it, if it is not to be handled.
    /// - Returns: `false` when it is refused because too many are waiting.
    mutating func arrived(
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
        // Deliveries that arrive after the loss of their channel are redelivered.
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
    /// - Parameter dispositions: The decisions about its messages, by their index in the run. A message without a decision was not handled.
    mutating func ended(
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

    /// A handler waits for something other than its own work: its slot is free in the meantime.
    mutating func suspended(_ id: RunID, at time: Duration, _ actions: inout [Action]) {
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

    /// The wait of a handler is over, or will be when it begins: it resumes when it has a slot.
    mutating func released(_ id: RunID, at time: Duration, _ actions: inout [Action]) {
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

    /// The decision about a message whose time limit has passed.
    mutating func decided(
        _ key: Key,
        _ disposition: Disposition,
        at time: Duration,
        _ actions: inout [Action]
    ) {
        guard case .undecided? = entries[key]?.phase else { return }
        now = time
        // A retry after the time limit removes the limit.
        if let due = entries[key]?.due, due <= now { change(key) { $0.due = nil } }
        record(disposition, &actions)
        apply(disposition, to: key, &actions)
        startReady(&actions)
    }

    /// Publishing instead of a message has ended.
    mutating func published(
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

    /// A channel is lost: its deliveries will be redelivered, and must not be settled.
    ///
    /// - Returns: The tags of the deliveries whose handling had begun.
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
    mutating func tick(at time: Duration, _ actions: inout [Action]) {
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

    /// When ``tick(at:_:)`` has to be called next.
    var nextWake: Duration? {
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

    /// Ends everything: nothing is settled any more, and nothing new is accepted.
    mutating func closeAll(at time: Duration, _ actions: inout [Action]) {
        hasEnded = true
        for source in Array(sources.keys) { closed(source, at: time, &actions) }
    }

    /// Starts nothing more. Arriving deliveries wait until they are returned to the broker.
    mutating func stopStarting() {
        if case .no = stopping { stopping = .startingNothing }
    }

    /// Returns deliveries that are not being handled to the broker, in order of arrival. The consumer must have been cancelled, because the
    /// broker would deliver them here again. A delivery that waits for another message of its key follows when that one is settled, since
    /// that one may have to be returned first.
    ///
    /// - Parameter source: Whose deliveries, permanently; `nil` for all, for now. A stream cannot take deliveries back: they are handled
    ///   later, or are redelivered to the next consumer if there is none here any more.
    mutating func giveBack(_ source: Source? = nil, _ actions: inout [Action]) {
        for key in entries.keys.sorted() {
            guard let entry = entries[key], source == nil || entry.source == source else { continue }
            if sources[entry.source]?.kind == .stream, source == nil, !isStopping { continue }
            if source != nil { change(key) { $0.isReturning = true } }
            switch entry.phase {
            case .publishing, .undetermined: break
            case .running, .undecided: change(key) { $0.isReturning = true }
            case .waiting where isBehindOthers(entry): change(key) { $0.isReturning = true }
            case .waiting: returnWaiting(key, &actions)
            case .pausing: settle(key, .requeue, &actions)
            }
        }
    }

    /// Returns a waiting message to the broker.
    private mutating func returnWaiting(_ key: Key, _ actions: inout [Action]) {
        settle(key, entries[key]?.wasRun == true ? .requeue : .giveBack, &actions)
    }

    /// Stops for good. Waiting deliveries are returned to the broker or, with `finishing`, handled.
    mutating func drain(finishing: Bool, at time: Duration, _ actions: inout [Action]) {
        now = time
        stopping = .draining(finishing: finishing)
        guard finishing else { return giveBack(nil, &actions) }
        for key in entries.keys.sorted() {
            if case .pausing? = entries[key]?.phase { settle(key, .requeue, &actions) }
        }
        for partition in Array(partitions.keys) { advance(partition, &actions) }
        startReady(&actions)
    }

    /// Pauses or resumes starting handlers.
    mutating func setPaused(_ paused: Bool, at time: Duration, _ actions: inout [Action]) {
        now = time
        isPaused = paused
        startReady(&actions)
    }

    /// Changes how many handlers run concurrently. Running handlers are not affected.
    mutating func setConcurrency(_ concurrency: Int, at time: Duration, _ actions: inout [Action]) {
        now = time
        settings.concurrency = max(1, concurrency)
        startReady(&actions)
    }

    /// Changes how many messages may start per interval.
    mutating func setRate(_ rate: DeliveryRate?, at time: Duration, _ actions: inout [Action]) {
        now = time
        settings.rate = rate
        tokens = rate.map { DeliveryRate.Tokens($0) }
        startReady(&actions)
    }

    /// Delays come from settings and from errors of handlers, so they are clamped.
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

    /// Whether another message of its key is being processed.
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

    /// Makes the first waiting message of a key ready, if it is its turn, or returns it to the broker.
    private mutating func advance(_ partition: Int?, _ actions: inout [Action]) {
        while let state = partitions[partition], state.live == 0, let first = firstWaiting(of: state),
            entries[first]?.isReturning == true
        {
            returnWaiting(first, &actions)
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

    /// The first waiting message, unless its settlement is decided but cannot be sent yet: then the others wait for that.
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
        case .startingNothing, .draining(finishing: false): return false
        }
        guard !isPaused, trippedUntil == nil else { return false }
        guard runningCount < settings.concurrency else { return false }
        // Zombies occupy no slot, but when there are more of them than slots, nothing starts until some have ended.
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
            // Some messages of a waiting batch may have been lost with their channel.
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
            if isStopping || delay <= .zero || entries[key]?.isReturning == true {
                settle(key, .requeue, &actions)
            } else {
                pause(key, .requeue, for: delay)
            }
        case .retry(let delay):
            if case .draining = stopping { return settle(key, .requeue, &actions) }
            if entries[key]?.isReturning == true { return settle(key, .requeue, &actions) }
            change(key) { $0.attempt += 1 }
            pause(key, .retry, for: delay)
        case .forward(let forward):
            endWaiting(key)
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
            // Messages of the same key that wait behind it must not overtake it.
            if settings.isOrdered, entry.partition != nil, let waiting = partitions[entry.partition]?.waiting {
                for next in waiting.reversed() where next > key && entries[next]?.source == entry.source {
                    // Everything before it is returned too.
                    if entries[next]?.isReturning == true { break }
                    change(next) { $0.isReturning = true }
                }
            }
            say(settlement)
        case (.reject, .stream): say(.acknowledge)
        // A stream does not redeliver: the message is retried here, unless the runner has ended.
        case (.requeue, .stream), (.giveBack, .stream):
            if isStopping || entry.isReturning { return remove(key, &actions) }
            if case .requeue = settlement { change(key) { $0.attempt += 1 } }
            makeReady(key, &actions)
        case (_, .undetermined):
            endWaiting(key)
            change(key) { $0.phase = .undetermined(settlement) }
        }
    }

    /// A delivery that waits for a slot changes its state.
    private mutating func endWaiting(_ key: Key) {
        if case .waiting? = entries[key]?.phase { waitingCount -= 1 }
    }

    private mutating func makeReady(_ key: Key, _ actions: inout [Action]) {
        endWaiting(key)
        change(key) { $0.phase = .waiting }
        waitingCount += 1
        let partition = entries[key]?.partition
        if entries[key]?.holdsKey != true, partitions[partition]?.waiting.contains(key) == true {
            return advance(partition, &actions)
        }
        // It holds its key, but an earlier attempt may still be running: two of one key never run concurrently.
        if entries[key]?.holdsKey == true, let zombies = partitions[partition]?.zombies, zombies > 0 {
            change(key) { $0.holdsKey = false }
            partitions[partition]?.live -= 1
            partitions[partition]?.waiting.prepend(key)
            return
        }
        ready.append(.begin(Run(first: key, rest: [], partition: settings.isOrdered ? partition : nil)))
    }

    private mutating func pause(_ key: Key, _ next: Next, for delay: Duration) {
        endWaiting(key)
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
        // Alarms of deliveries that ended early are not searched for; they are removed in bulk.
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

    /// The time limit of a delivery has passed, in whatever state it is.
    private mutating func expire(delivery key: Key, _ actions: inout [Action]) {
        guard let entry = entries[key] else { return }
        let item = Item(key: key, message: entry.message, attempt: entry.attempt)
        switch entry.phase {
        case .waiting:
            if let index = partitions[entry.partition]?.waiting.firstIndex(of: key) {
                partitions[entry.partition]?.waiting.remove(at: index)
                // It no longer holds its key.
                change(key) { $0.partition = nil }
            }
            endWaiting(key)
            change(key) { $0.phase = .undecided }
            actions.append(.decide(item, nil))
        case .running(let id):
            change(key) { $0.phase = .undecided }
            if !hasLiveMessage(id) { abandon(id, &actions) }
            actions.append(.decide(item, id))
        case .pausing(.retry, _):
            change(key) { $0.phase = .undecided }
            actions.append(.decide(item, nil))
        // The decision has been made.
        case .pausing(.requeue, _), .pausing(.publish, _), .publishing, .undecided, .undetermined: break
        }
    }

    /// Stops waiting for a handler. The run holds its key until it ends.
    private mutating func abandon(_ id: RunID, _ actions: inout [Action]) {
        guard let run = runs[id], run.stage != .zombie else { return }
        if run.stage == .resuming { waitingCount -= 1 }
        if run.stage.hasPlace { runningCount -= 1 }
        actions.append(.cancel(id))
        // A handler that waits for others ends as soon as it is cancelled.
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

    /// In place: optional chaining through the subscript allocates each time.
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
