internal import ConcurrencyPrimitives
package import Supervision
import Synchronization

/// The origin of deliveries, which receives their settlements.
package protocol DeliverySource: AnyObject, Sendable {
    /// Called on any thread, without a lock. Calls after the end of the source must have no effect.
    func settle(_ tag: UInt64, _ settlement: Settlement)
    /// Acknowledges several deliveries together.
    func acknowledge(_ tags: [UInt64])
}

extension DeliverySource {
    package func acknowledge(_ tags: [UInt64]) {
        for tag in tags { settle(tag, .acknowledge) }
    }
}

/// One run of a handler, with one message or a batch.
package struct DeliveryRun: Sendable {
    package let id: DeliveryCore.RunID
    package let first: DeliveryCore.Item
    let rest: [DeliveryCore.Item]

    package var items: [DeliveryCore.Item] { [first] + rest }
}

/// Performs the actions of ``DeliveryCore``: starts and cancels tasks of handlers, settles deliveries, publishes, sets the timer.
/// Consumers, workers and receivers are policies on top of it.
///
/// It only decides under its lock, and acts after releasing it: creating a task or sending something wakes another thread, which needs the
/// lock next.
package final class DeliveryRunner: Sendable {
    package typealias Core = DeliveryCore

    /// The policy of the runner's user.
    package struct Behavior: Sendable {
        /// Handles messages, and returns the decision about each, in order. Its task is cancelled when they no longer belong to this
        /// consumer.
        var handle: @Sendable (DeliveryRun) async -> Dispositions
        /// Decides about a message whose time limit has passed. `run`: the run that should have handled it; `nil` if it never ran.
        package var onTimeLimit: @Sendable (DeliveryCore.Item, _ run: DeliveryCore.RunID?) -> Disposition = { _, _ in
            .requeue(after: .zero)
        }
        /// Whether ``onTimeLimit`` calls user code, and so needs a task. Otherwise the timer calls it, even while all threads of the pool
        /// are blocked.
        package var asksAtTimeLimit = true
        /// How the handler of a run starts.
        package var beginning: @Sendable (DeliveryRun) -> Beginning = { _ in .inTask }
        /// Takes over the run: its new owner ends it by ``DeliveryRunner/end(_:_:)``.
        var handOver: (@Sendable (DeliveryRun) -> Void)?
        /// Called when a suspended handler has its slot again.
        package var resume: @Sendable (DeliveryCore.RunID) -> Void = { _ in }
        /// Called when a message is lost with its channel.
        package var onLost: @Sendable (DeliveryCore.Item) -> Void = { _ in }
        /// Called when a message of a run no longer belongs to this consumer; possibly more than once.
        package var takeBack: @Sendable (DeliveryCore.Item, _ run: DeliveryCore.RunID) -> Void = { _, _ in }
        /// Publishes a message instead of a delivered one, and returns when the broker has confirmed it. It is retried after a delay when
        /// it throws.
        package var publish: @Sendable (Forward) async throws -> Void = { _ in }
        /// Receives events in order. Called under a lock: it must not call the runner.
        package var onEvent: @Sendable (Event) -> Void = { _ in }

        package init(handle: @escaping @Sendable (DeliveryRun) async -> Dispositions) {
            self.handle = handle
        }
    }

    package enum Beginning: Sendable {
        /// In a task on the pool.
        case inTask
        /// In a task that starts on the current thread, until its first suspension. The closure has to run its argument, which is that
        /// part.
        case atOnce(@Sendable (() -> Void) -> Void)
        /// It has been handled without a task.
        case handled(Dispositions)
    }

    package enum Event: Sendable {
        case began(Int)
        case tripped(for: Duration)
        case recovered
        case zombies(Int)
        case publishFailed(Forward, any Error)
        /// Nothing is left.
        case idle
    }

    private struct State {
        var core: Core
        var lastSource: Core.Source = 0
        var tasks: [Core.RunID: Task<Void, Never>] = [:]
        var publishing: [Core.Key: Task<Void, Never>] = [:]
        var wake: (due: Duration, timer: SupervisionTimer)?
        /// The memory of the previous actions, for reuse.
        var spareActions: [Core.Action] = []
        /// The number of decisions that are being performed, or are under way elsewhere.
        var settling = 0
        var isBusy = false
        var idleWaiters: [(isMet: @Sendable (borrowing Core) -> Bool, isIdle: OneShot<Bool>)] = []
    }

    private let state: Mutex<State>
    private let behavior: Behavior
    private let clock: any SupervisionClock

    package init(
        _ settings: Core.Settings,
        clock: any SupervisionClock = SystemSupervisionClock.shared,
        behavior: Behavior
    ) {
        state = Mutex(State(core: Core(settings)))
        self.behavior = behavior
        self.clock = clock
    }

    /// The number of unsettled deliveries.
    package var count: Int { state.withLock { $0.core.count } }
    /// The number of running handlers whose messages have not been given up.
    package var running: Int { state.withLock { $0.core.running } }
    /// The number of handlers that are running after their messages were given up.
    package var zombieCount: Int { state.withLock { $0.core.zombieCount } }

    /// The oldest deliveries, and the numbers of running and waiting ones.
    package func look(
        oldest limit: Int
    ) -> (oldest: [(message: any DeliveredMessage, stage: Core.Stage)], running: Int, waiting: Int) {
        state.withLock { ($0.core.oldest(limit), $0.core.running, $0.core.waiting) }
    }

    package var look: DeliveryLook {
        let now = clock.now
        return state.withLock { $0.core.look(at: now) }
    }

    // MARK: Sources

    /// Begins to accept deliveries of a source, which is retained until ``close(_:)``.
    package func open(_ source: any DeliverySource, _ kind: Core.SourceKind) -> Core.Source {
        state.withLock { state in
            state.lastSource += 1
            state.core.opened(state.lastSource, kind, for: source)
            return state.lastSource
        }
    }

    /// Begins to accept deliveries of a channel that the decider settles itself.
    package func open(_ source: Core.Source) {
        state.withLock { $0.core.opened(source, .queue, for: nil) }
    }

    func kind(of source: Core.Source) -> Core.SourceKind? { state.withLock { $0.core.kind(of: source) } }

    func determined(_ source: Core.Source, _ kind: Core.SourceKind) {
        drive { $0.determined(source, kind, at: $1, &$2) }
    }

    package func deliver(_ prepared: PreparedDelivery, from source: Core.Source, tag: UInt64) {
        drive { core, now, actions in
            _ = core.arrived(
                prepared.message,
                from: source,
                tag: tag,
                partition: prepared.partition,
                attempt: prepared.attempt,
                disposition: prepared.disposition,
                at: now,
                &actions
            )
        }
    }

    /// Accepts a delivery whose time limit passes after `timeLeft`. Returns `false` if it may be refused and too many are waiting.
    package func deliver(
        _ message: any DeliveredMessage,
        from source: Core.Source,
        timeLeft: Duration,
        mayBeRefused: Bool
    ) -> Bool {
        var isTaken = true
        drive { core, now, actions in
            isTaken = core.arrived(
                message,
                from: source,
                tag: 0,
                timeLeft: timeLeft,
                mayBeRefused: mayBeRefused,
                at: now,
                &actions
            )
        }
        return isTaken
    }

    /// Ends a source: nothing more is settled, and handlers of its deliveries are cancelled.
    ///
    /// - Returns: The tags of the deliveries whose handling had begun.
    @discardableResult
    package func close(_ source: Core.Source) -> [UInt64] {
        var begun: [UInt64] = []
        drive { begun = $0.closed(source, at: $1, &$2) }
        return begun
    }

    /// Ends everything: handlers are cancelled, nothing is settled any more, and nothing new is accepted.
    package func closeAll() {
        drive { $0.closeAll(at: $1, &$2) }
    }

    // MARK: Handling

    /// The owner of a run that was taken over has ended it.
    func end(_ run: Core.RunID, _ dispositions: Dispositions) {
        drive { $0.ended(run, dispositions, at: $1, &$2) }
    }

    private func ended(_ run: Core.RunID, _ dispositions: Dispositions) {
        drive(taskOf: run) { core, now, actions in core.ended(run, dispositions, at: now, &actions) }
    }

    /// A handler waits for something other than its own work: its slot is free until ``Behavior/resume`` is called.
    package func suspend(_ run: Core.RunID) {
        drive { $0.suspended(run, at: $1, &$2) }
    }

    /// The current or next wait of a handler is over.
    package func release(_ run: Core.RunID) {
        drive { $0.released(run, at: $1, &$2) }
    }

    // MARK: Control

    package func stopStarting() {
        drive { core, _, _ in core.stopStarting() }
    }

    package func giveBack(_ source: Core.Source? = nil) {
        drive { core, _, actions in core.giveBack(source, &actions) }
    }

    package func drain(finishing: Bool) {
        drive { $0.drain(finishing: finishing, at: $1, &$2) }
    }

    package func setPaused(_ paused: Bool) {
        drive { $0.setPaused(paused, at: $1, &$2) }
    }

    package func setConcurrency(_ concurrency: Int) {
        drive { $0.setConcurrency(concurrency, at: $1, &$2) }
    }

    package func setRate(_ rate: DeliveryRate?) {
        drive { $0.setRate(rate, at: $1, &$2) }
    }

    /// Waits until no delivery is unsettled, of one source or of all, and all decisions have been performed. `false`: not in time, or the
    /// task was cancelled.
    package func idle(_ source: Core.Source? = nil, atMost timeout: Duration) async -> Bool {
        await wait(atMost: timeout) { core in source.map { core.isIdle($0) } ?? (core.count == 0) }
    }

    /// Waits until nothing is being handled, and all decisions have been performed. `false` as for ``idle(_:atMost:)``.
    package func resting(atMost timeout: Duration) async -> Bool {
        await wait(atMost: timeout) { $0.isResting }
    }

    private func wait(atMost timeout: Duration, until isMet: @escaping @Sendable (borrowing Core) -> Bool) async -> Bool
    {
        let isIdle = OneShot<Bool>()
        state.withLock { state in
            state.idleWaiters.append((isMet, isIdle))
            wakeIdle(&state)
        }
        let result = await isIdle.wait(atMost: timeout) ?? false
        state.withLock { state in state.idleWaiters.removeAll { $0.isIdle === isIdle } }
        return result
    }

    /// A delivery is being settled elsewhere: the runner is not idle before ``endSettling()``.
    package func beginSettling() {
        state.withLock { $0.settling += 1 }
    }

    package func endSettling() {
        state.withLock { state in
            state.settling -= 1
            wakeIdle(&state)
        }
    }

    private func wakeIdle(_ state: inout State) {
        guard !state.idleWaiters.isEmpty, state.settling == 0 else { return }
        state.idleWaiters.removeAll { waiter in
            let isMet = waiter.isMet(state.core)
            if isMet { waiter.isIdle.set(true) }
            return isMet
        }
    }

    // MARK: Deciding, under the lock

    private func drive(
        taskOf run: Core.RunID? = nil,
        _ input: (inout Core, Duration, inout [Core.Action]) -> Void
    ) {
        let now = clock.now
        var actions = state.withLock { state -> [Core.Action] in
            if let run { state.tasks[run] = nil }
            var actions: [Core.Action] = []
            swap(&actions, &state.spareActions)
            input(&state.core, now, &actions)
            setTimer(&state, now)
            if actions.isEmpty {
                swap(&actions, &state.spareActions)
                noteIdle(&state)
            } else {
                state.settling += 1
                for action in actions { emit(action) }
            }
            return actions
        }
        if !actions.isEmpty { perform(&actions) }
    }

    /// Emits the event of an action, in order.
    private func emit(_ action: Core.Action) {
        switch action {
        case .run(_, _, let rest): behavior.onEvent(.began(1 + rest.count))
        case .tripped(let pause): behavior.onEvent(.tripped(for: pause))
        case .recovered: behavior.onEvent(.recovered)
        case .zombies(let count): behavior.onEvent(.zombies(count))
        case .resume, .cancel, .decide, .lost, .settle, .carryOut, .publish, .withdraw: break
        }
    }

    private func noteIdle(_ state: inout State) {
        wakeIdle(&state)
        let isBusy = state.core.count > 0 || state.settling > 0
        if state.isBusy, !isBusy { behavior.onEvent(.idle) }
        state.isBusy = isBusy
    }

    private func setTimer(_ state: inout State, _ now: Duration) {
        guard let due = state.core.nextWake else {
            state.wake?.timer.cancel()
            state.wake = nil
            return
        }
        // The earlier wake-up sets the next one.
        if let wake = state.wake, wake.due <= due { return }
        state.wake?.timer.cancel()
        let timer = clock.schedule(after: due - now) { [weak self] in self?.wake(at: due) }
        state.wake = (due, timer)
    }

    private func wake(at due: Duration) {
        state.withLock { state in if state.wake?.due == due { state.wake = nil } }
        drive { $0.tick(at: $1, &$2) }
    }

    // MARK: Acting, outside the lock

    private func perform(_ actions: inout [Core.Action]) {
        var begun: (run: DeliveryRun, task: Task<Void, Never>?)?
        var index = actions.startIndex
        while index < actions.endIndex {
            let action = actions[index]
            index += 1
            switch action {
            case .run(let id, let first, let rest):
                if let begun { adopt(begun.run, begun.task) }
                begun = begin(DeliveryRun(id: id, first: first, rest: rest))
            case .resume(let run): behavior.resume(run)
            case .cancel(let run): state.withLock { $0.tasks[run] }?.cancel()
            case .decide(let item, let run): decide(item, run)
            case .lost(let item, let run):
                behavior.onLost(item)
                if let run { behavior.takeBack(item, run) }
            case .settle(let source, let tag, .acknowledge):
                let others = Self.acknowledgements(by: source, from: index, of: actions)
                index += others.count
                if others.isEmpty { source.settle(tag, .acknowledge) } else { source.acknowledge([tag] + others) }
            case .settle(let source, let tag, let settlement): source.settle(tag, settlement)
            case .carryOut(let settle): settle()
            case .publish(let key, let forward): publish(key, forward)
            case .withdraw(let key): state.withLock { $0.publishing[key] }?.cancel()
            case .tripped, .recovered, .zombies: break
            }
        }
        actions.removeAll(keepingCapacity: true)
        let isGivenUp = state.withLock { state -> Bool in
            let isGivenUp = begun.map { adopt($0.run, $0.task, &state) } ?? false
            state.settling -= 1
            if state.spareActions.capacity == 0 { swap(&actions, &state.spareActions) }
            noteIdle(&state)
            return isGivenUp
        }
        if isGivenUp, let begun { takeBack(begun.run, begun.task) }
    }

    /// The acknowledgements for one source from an index on, up to the first other action.
    private static func acknowledgements(
        by source: any DeliverySource,
        from index: Int,
        of actions: [Core.Action]
    ) -> [UInt64] {
        var tags: [UInt64] = []
        for action in actions[index...] {
            guard case .settle(let other, let tag, .acknowledge) = action, other === source else { break }
            tags.append(tag)
        }
        return tags
    }

    /// Starts a run. Returns what is under way, unless it has already ended by itself.
    private func begin(_ run: DeliveryRun) -> (run: DeliveryRun, task: Task<Void, Never>?)? {
        if let handOver = behavior.handOver {
            handOver(run)
            return (run, nil)
        }
        // Detached: it must not inherit task-local values of the current thread's caller.
        let handle = { @Sendable [self] in
            // Given up before it started.
            let dispositions = Task.isCancelled ? [] : await behavior.handle(run)
            ended(run.id, dispositions)
        }
        switch behavior.beginning(run) {
        case .handled(let dispositions):
            end(run.id, dispositions)
            return nil
        case .atOnce(let watched):
            var task: Task<Void, Never>?
            if #available(macOS 26, iOS 26, tvOS 26, watchOS 26, visionOS 26, *) {
                watched { task = Task.immediateDetached { await handle() } }
            }
            return (run, task ?? Task.detached { await handle() })
        case .inTask: return (run, Task.detached { await handle() })
        }
    }

    private func adopt(_ run: DeliveryRun, _ task: Task<Void, Never>?) {
        if state.withLock({ adopt(run, task, &$0) }) { takeBack(run, task) }
    }

    /// Stores the task of a run, which may have ended or been given up by now. Returns whether it was given up, as far as known.
    private func adopt(_ run: DeliveryRun, _ task: Task<Void, Never>?, _ state: inout State) -> Bool {
        switch state.core.stage(of: run.id) {
        case .zombie: return true
        // A run that was taken over has no task.
        case nil: return task == nil
        case .waiting, .running, .suspended, .resuming, .released:
            if let task { state.tasks[run.id] = task }
            return false
        }
    }

    private func takeBack(_ run: DeliveryRun, _ task: Task<Void, Never>?) {
        task?.cancel()
        for item in run.items { behavior.takeBack(item, run.id) }
    }

    private func decide(_ item: Core.Item, _ run: Core.RunID?) {
        let decide = { @Sendable [self] in
            let disposition = behavior.onTimeLimit(item, run)
            drive { $0.decided(item.key, disposition, at: $1, &$2) }
        }
        // Not awaited: it decides once, and a decision about a settled delivery has no effect.
        if behavior.asksAtTimeLimit { Task.detached { decide() } } else { decide() }
    }

    private func publish(_ key: Core.Key, _ forward: Forward) {
        let task = Task.detached { [self] in
            do {
                try await behavior.publish(forward)
                published(key, .confirmed)
            } catch {
                behavior.onEvent(.publishFailed(forward, error))
                published(key, (error as? AMQPError)?.isMistake == true ? .impossible : .failed)
            }
        }
        let isWithdrawn = state.withLock { state in
            let isPublishing = state.core.isPublishing(key)
            if isPublishing { state.publishing[key] = task }
            return !isPublishing
        }
        if isWithdrawn { task.cancel() }
    }

    private func published(_ key: Core.Key, _ publication: Core.Publication) {
        state.withLock { $0.publishing[key] = nil }
        drive { $0.published(key, publication, at: $1, &$2) }
    }
}

extension AMQPPool {
    /// Publishes instead of a delivered message, and returns when the broker has confirmed it.
    package func publish(_ forward: Forward) async throws {
        try await publish(
            forward.body,
            properties: forward.properties,
            exchange: forward.exchange,
            routingKey: forward.routingKey,
            mandatory: true
        )
    }
}
