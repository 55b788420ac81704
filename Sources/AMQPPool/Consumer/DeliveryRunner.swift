internal import ConcurrencyPrimitives
package import Supervision
import Synchronization

/// Where deliveries come from, and who is told what becomes of them.
package protocol DeliverySource: AnyObject, Sendable {
    /// Must not block: it is called under a lock, so that nothing is told behind the end of the source.
    func settle(_ tag: UInt64, _ settlement: Settlement)
}

/// One run of a handler: a message, or a batch.
package struct DeliveryRun<Message: Sendable>: Sendable {
    package let id: UInt64
    package let first: DeliveryCore<Message>.Item
    package let rest: [DeliveryCore<Message>.Item]

    package var items: [DeliveryCore<Message>.Item] { [first] + rest }
}

/// Carries out what ``DeliveryCore`` decides: starts and cancels tasks of handlers, tells the broker, publishes, sets the timer.
package final class DeliveryRunner<Message: Sendable>: Sendable {
    package typealias Core = DeliveryCore<Message>

    /// What the consumer that uses it brings along.
    package struct Behavior: Sendable {
        /// Handles messages, and says what becomes of each, in their order. Its task is cancelled when they are not ours any more.
        package var handle: @Sendable (DeliveryRun<Message>) async -> [Disposition]
        /// What becomes of a message whose handler has reached its time limit.
        package var onTimeLimit: @Sendable (Message, _ attempt: Int) -> Disposition = { _, _ in .requeue(after: .zero) }
        /// Takes the run over instead: whoever has it ends it by ``DeliveryRunner/end(_:_:)``. Called under a lock.
        package var handOver: (@Sendable (DeliveryRun<Message>) -> Void)?
        /// The messages of a run that was handed over are not ours any more. Called under a lock.
        package var takeBack: @Sendable (UInt64) -> Void = { _ in }
        /// Publishes a message in place of one that was delivered, and returns when the broker has it. It is called again, after a
        /// pause, when it throws.
        package var publish: @Sendable (Forward) async throws -> Void = { _ in }
        /// Hears of what happens. Called under a lock.
        package var onEvent: @Sendable (Event) -> Void = { _ in }

        package init(handle: @escaping @Sendable (DeliveryRun<Message>) async -> [Disposition]) {
            self.handle = handle
        }
    }

    package enum Event: Sendable {
        case began(Int)
        case settled(Settlement)
        case tripped(for: Duration)
        case recovered
        case zombies(Int)
        case publishFailed(Forward, any Error)
        /// Nothing is here any more.
        case idle
    }

    private struct State {
        var core: Core
        var sources: [Core.Source: any DeliverySource] = [:]
        var lastSource: Core.Source = 0
        var tasks: [Core.RunID: Task<Void, Never>] = [:]
        var publishing: [Core.Key: Task<Void, Never>] = [:]
        var wake: (due: Duration, timer: SupervisionTimer)?
        /// The memory of the actions before, used again.
        var spareActions: [Core.Action] = []
        var isBusy = false
        var idleWaiters: [(source: Core.Source?, isIdle: OneShot<Bool>)] = []
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

    /// How many deliveries are not settled.
    package var count: Int { state.withLock { $0.core.count } }
    /// How many handlers run whose messages are not given up.
    package var running: Int { state.withLock { $0.core.running } }
    /// How many handlers run on although their messages are given up.
    package var zombieCount: Int { state.withLock { $0.core.zombieCount } }

    // MARK: Sources

    /// Begins to take deliveries of a source. It is held until ``close(_:)``.
    package func open(_ source: any DeliverySource, _ kind: Core.SourceKind) -> Core.Source {
        state.withLock { state in
            state.lastSource += 1
            state.sources[state.lastSource] = source
            state.core.opened(state.lastSource, kind)
            return state.lastSource
        }
    }

    package func kind(of source: Core.Source) -> Core.SourceKind? { state.withLock { $0.core.kind(of: source) } }

    package func determined(_ source: Core.Source, _ kind: Core.SourceKind) {
        drive { $0.determined(source, kind, at: $1, &$2) }
    }

    package func deliver(_ prepared: PreparedDelivery<Message>, from source: Core.Source, tag: UInt64) {
        drive { core, now, actions in
            core.arrived(
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

    /// Nothing is told to the source any more; handlers of its deliveries are cancelled.
    ///
    /// - Returns: The tags of those whose handling had begun.
    @discardableResult
    package func close(_ source: Core.Source) -> [UInt64] {
        var begun: [UInt64] = []
        drive { begun = $0.closed(source, at: $1, &$2) }
        state.withLock { state in
            state.sources[source] = nil
            wakeIdle(&state)
        }
        return begun
    }

    // MARK: Handling

    /// Whoever took a run over has ended it.
    package func end(_ run: Core.RunID, _ dispositions: [Disposition]) {
        drive { $0.ended(run, dispositions, at: $1, &$2) }
    }

    private func ended(_ run: Core.RunID, _ dispositions: [Disposition]) {
        let now = clock.now
        state.withLock { state in
            state.tasks[run] = nil
            step(&state, now) { core, now, actions in core.ended(run, dispositions, at: now, &actions) }
        }
    }

    // MARK: Control

    package func hold() {
        drive { core, _, _ in core.hold() }
    }

    package func release() {
        drive { $0.release(at: $1, &$2) }
    }

    package func giveBack() {
        drive { core, _, actions in core.giveBack(&actions) }
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

    /// Waits until no delivery is left unsettled, of one source or at all. `false`: not in time, or the task was cancelled.
    package func idle(_ source: Core.Source? = nil, atMost timeout: Duration) async -> Bool {
        let isIdle = OneShot<Bool>()
        state.withLock { state in
            state.idleWaiters.append((source, isIdle))
            wakeIdle(&state)
        }
        let result = await isIdle.wait(atMost: timeout) ?? false
        state.withLock { state in state.idleWaiters.removeAll { $0.isIdle === isIdle } }
        return result
    }

    private func wakeIdle(_ state: inout State) {
        guard !state.idleWaiters.isEmpty else { return }
        state.idleWaiters.removeAll { waiter in
            let isIdle = waiter.source.map { state.core.isIdle($0) } ?? (state.core.count == 0)
            if isIdle { waiter.isIdle.set(true) }
            return isIdle
        }
    }

    // MARK: Acting

    private typealias Input = (inout Core, Duration, inout [Core.Action]) -> Void

    private func drive(_ input: Input) {
        let now = clock.now
        state.withLock { step(&$0, now, input) }
    }

    private func step(_ state: inout State, _ now: Duration, _ input: Input) {
        var actions: [Core.Action] = []
        swap(&actions, &state.spareActions)
        input(&state.core, now, &actions)
        if !actions.isEmpty {
            for action in actions { perform(action, &state) }
            actions.removeAll(keepingCapacity: true)
        }
        swap(&actions, &state.spareActions)
        setTimer(&state, now)
        wakeIdle(&state)
        let isBusy = state.core.count > 0
        if state.isBusy, !isBusy { behavior.onEvent(.idle) }
        state.isBusy = isBusy
    }

    private func published(_ key: Core.Key, _ publication: Core.Publication) {
        let now = clock.now
        state.withLock { state in
            state.publishing[key] = nil
            step(&state, now) { $0.published(key, publication, at: $1, &$2) }
        }
    }

    private func perform(_ action: Core.Action, _ state: inout State) {
        switch action {
        case .run(let id, let first, let rest):
            behavior.onEvent(.began(1 + rest.count))
            let run = DeliveryRun<Message>(id: id, first: first, rest: rest)
            if let handOver = behavior.handOver { return handOver(run) }
            // Detached: it must not inherit anything from whoever happens to run here.
            state.tasks[id] = Task.detached { [self] in
                // Given up before it got its turn.
                let dispositions = Task.isCancelled ? [] : await behavior.handle(run)
                ended(id, dispositions)
            }
        case .cancel(let run):
            state.tasks[run]?.cancel()
            if behavior.handOver != nil { behavior.takeBack(run) }
        case .decide(let item):
            // Not here, under the lock: it may ask its user.
            Task.detached { [self] in
                let disposition = behavior.onTimeLimit(item.message, item.attempt)
                drive { $0.decided(item.key, disposition, at: $1, &$2) }
            }
        case .settle(let source, let tag, let settlement):
            state.sources[source]?.settle(tag, settlement)
            behavior.onEvent(.settled(settlement))
        case .publish(let key, let forward):
            state.publishing[key] = Task.detached { [self] in
                do {
                    try await behavior.publish(forward)
                    published(key, .confirmed)
                } catch {
                    behavior.onEvent(.publishFailed(forward, error))
                    published(key, (error as? AMQPError)?.isPermanent == true ? .impossible : .failed)
                }
            }
        case .withdraw(let key): state.publishing[key]?.cancel()
        case .tripped(let pause): behavior.onEvent(.tripped(for: pause))
        case .recovered: behavior.onEvent(.recovered)
        case .zombies(let count): behavior.onEvent(.zombies(count))
        }
    }

    private func setTimer(_ state: inout State, _ now: Duration) {
        guard let due = state.core.nextWake else {
            state.wake?.timer.cancel()
            state.wake = nil
            return
        }
        // An earlier one looks what is next.
        if let wake = state.wake, wake.due <= due { return }
        state.wake?.timer.cancel()
        let timer = clock.schedule(after: due - now) { [weak self] in self?.wake(at: due) }
        state.wake = (due, timer)
    }

    private func wake(at due: Duration) {
        state.withLock { state in if state.wake?.due == due { state.wake = nil } }
        drive { $0.tick(at: $1, &$2) }
    }
}

extension AMQPPool {
    /// Publishes in place of a message that was delivered, and returns when the broker has it in a queue.
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

extension AMQPError {
    /// Whether publishing this fails whenever it is tried.
    fileprivate var isPermanent: Bool {
        switch cause {
        case .unencodable, .messageTooLarge, .invalidArgument: true
        default: false
        }
    }
}
