internal import ConcurrencyPrimitives
import Logging
package import Supervision
import Synchronization

/// Keeps consuming a queue: waits for a connection, opens and sets up its own channel, consumes, and starts again whenever that ends.
package final class ConsumerLoop: Sendable {
    package struct Settings: Sendable {
        var queue: String
        /// The name under which the channel is kept; `nil` if it is not.
        var owner: String?
        var prefetch: UInt16
        package var exclusive = false
        package var arguments = ConsumerArguments()
        /// The type of the queue; `nil` if unknown.
        package var queueType: QueueArguments.QueueType?
        var missingQueue = MissingQueuePolicy.wait
        /// Returns where a stream starts, when consuming begins for the first time.
        package var streamStart: (@Sendable () async throws -> ConsumerArguments.StreamOffset?)?
        var backoff: Backoff
        var onOpen: @Sendable (AMQPChannel) async throws -> Void
        var log: BrokerLog
        /// Whether an error of `onOpen` may be resolved by someone else in the meantime.
        package var isTransient: @Sendable (any Error) -> Bool = { _ in false }
        /// Called when consuming is not possible at present. `isMissing`: something that it needs does not exist.
        package var onInterruption: @Sendable (_ reason: String, _ isMissing: Bool) -> Void = { _, _ in }
        /// Called each time consuming has begun, with the type of the queue if known.
        package var onConsuming: @Sendable (QueueArguments.QueueType?) -> Void = { _ in }
        /// Called with the offset up to which a stream has been settled.
        package var onOffset: @Sendable (Int64) -> Void = { _ in }

        package init(
            queue: String,
            owner: String?,
            prefetch: UInt16,
            backoff: Backoff,
            log: BrokerLog,
            onOpen: @escaping @Sendable (AMQPChannel) async throws -> Void
        ) {
            self.queue = queue
            self.owner = owner
            self.prefetch = prefetch
            self.backoff = backoff
            self.log = log
            self.onOpen = onOpen
        }
    }

    private struct State {
        var session: ConsumerSession?
        /// The connection of the last channel. Exclusive queues exist only there.
        var connection: AMQPConnection?
        /// Where to continue in a stream.
        var offset: Int64?
        var prefetch: UInt16
        var isPaused = false
        /// Whether it was reported to be consuming.
        var isUp = false
        /// The consumer that was started last, even if it has ended.
        var consuming: ConsumerSession.Consuming?
        var resumed: OneShot<Void>?
        /// Why consuming is not possible at present.
        var problem: String?
        /// The owner has ended: channels opened from now on are closed immediately.
        var isOver = false
    }

    private let runner: DeliveryRunner
    private let prepare: @Sendable (Delivery, QueueArguments.QueueType?) -> PreparedDelivery
    private let pool: AMQPPool
    private let settings: Settings
    private let state: Mutex<State>

    package init(
        _ settings: Settings,
        pool: AMQPPool,
        runner: DeliveryRunner,
        prepare: @escaping @Sendable (Delivery, QueueArguments.QueueType?) -> PreparedDelivery
    ) {
        self.settings = settings
        self.pool = pool
        self.runner = runner
        self.prepare = prepare
        state = Mutex(State(prefetch: settings.prefetch))
    }

    /// Whether it is consuming, the reason why not if known, and the prefetch.
    package var look: (isConsuming: Bool, interruption: String?, prefetch: UInt16) {
        state.withLock { state in
            let isOpen = state.session.map { $0.channel.closedError == nil } ?? false
            let isConsuming = isOpen && !state.isPaused && state.problem == nil && state.consuming != nil
            return (isConsuming, state.problem, state.prefetch)
        }
    }

    // MARK: Running

    /// Consumes until the task is cancelled.
    ///
    /// - Throws: `CancellationError`; an error of `onOpen` itself; arguments that cannot be sent; the broker's refusal of a declaration
    ///   (403, 406) that was never accepted before, which is a configuration error; and the broker's answer that the queue does not exist,
    ///   if the policy says so.
    package func run() async throws {
        var failures = 0
        var wasOpen = false
        var missingSince: ContinuousClock.Instant?
        while true {
            try await waitWhilePaused()
            let session = try await session()
            let interruption: OneShot<ConsumerSession.Interruption>?
            var failure: BrokerStory.Failure?
            do {
                try await settings.onOpen(session.channel)
                wasOpen = true
                interruption = try await consume(on: session)
                missingSince = nil
                if setUp(true) {
                    settings.log.up(session.channel.connection, number: 0, also: ["queue": "\(settings.queue)"])
                }
            } catch {
                try Task.checkCancellation()
                if let error = error as? AMQPError {
                    guard !error.isMistake, wasOpen || ![403, 406].contains(error.replyCode) else { throw error }
                    // A broker from 4.0 on does not answer about a queue whose node is down, and its channel is blocked.
                    if error.isTimeout { await discard(session) }
                    if error.replyCode == 404 || error.isTimeout {
                        missingSince = missingSince ?? .now
                        if settings.missingQueue.isOver(since: missingSince) { throw error }
                    }
                } else if !settings.isTransient(error) {
                    throw error
                }
                interrupted("\(error)", (error as? AMQPError).map { $0.replyCode == 404 } ?? true)
                if setUp(false) { settings.log.handle(.down(.init(error))) }
                failure = BrokerStory.Failure("consume", error)
                interruption = nil
            }
            let begun = ContinuousClock.now
            if let interruption {
                guard let reason = await interruption.wait() else { throw CancellationError() }
                if case .reconfigured = reason {
                    failures = 0
                    continue
                }
                interrupted(reason.loss.reason, false)
                if setUp(false) { settings.log.handle(.down(reason.loss)) }
            }
            failures = begun.duration(to: .now) >= settings.backoff.resetAfter ? 1 : failures + 1
            let delay = settings.backoff.delay(afterFailures: failures, random: .random(in: 0..<1))
            if let failure { report(failure, retryIn: delay) }
            try await Task.sleep(for: delay)
        }
    }

    /// Whether the last log message said that it is consuming.
    package var isUp: Bool { state.withLock { $0.isUp } }

    /// Returns whether this is a change.
    private func setUp(_ isUp: Bool) -> Bool {
        state.withLock { state in
            defer { state.isUp = isUp }
            return state.isUp != isUp
        }
    }

    private func report(_ failure: BrokerStory.Failure, retryIn delay: Duration) {
        settings.log.handle(
            .failed(number: 0, place: ["queue": "\(settings.queue)"], failure, retryIn: delay)
        )
    }

    private func interrupted(_ reason: String, _ isMissing: Bool) {
        state.withLock { $0.problem = reason }
        settings.onInterruption(reason, isMissing)
    }

    private func consume(
        on session: ConsumerSession
    ) async throws -> OneShot<ConsumerSession.Interruption> {
        let (prefetch, settledOffset) = state.withLock { ($0.prefetch, $0.offset) }
        // While the channel is the same, messages that have arrived are still handled.
        let offset = session.nextOffset ?? settledOffset
        try await session.channel.setPrefetch(prefetch)
        let declared = session.channel.declaredTypes.withLock { $0[settings.queue] }
        var type = settings.queueType ?? declared
        var arguments = settings.arguments
        if offset == nil, let start = settings.streamStart { arguments.streamOffset = try await start() }
        if arguments.streamOffset != nil { type = .stream }
        // The broker's default for a stream. Set explicitly, so that the channel knows that it is a stream.
        if type == .stream, arguments.streamOffset == nil { arguments.streamOffset = .next }
        // Continues where the lost channel was, instead of at the start.
        if let offset { arguments.streamOffset = .offset(offset) }
        let consuming = try await session.consume(
            settings.queue,
            type: type,
            exclusive: settings.exclusive,
            arguments: arguments.fieldTable()
        )
        // A change that was made in the meantime did not reach this consumer.
        let (isPaused, isOutdated) = state.withLock { state in
            state.consuming = consuming
            state.problem = nil
            return (state.isPaused, state.isPaused || state.prefetch != prefetch)
        }
        if isOutdated { await session.reconfigure(consuming) }
        if isPaused { runner.giveBack() }
        settings.onConsuming(type)
        return consuming.interruption
    }

    /// The same channel as before, the one left by an earlier incarnation, or a new one.
    private func session() async throws -> ConsumerSession {
        if let session = state.withLock({ $0.session }), session.channel.closedError == nil { return session }
        while true {
            try Task.checkCancellation()
            if let owner = settings.owner, let channel = await pool.keptChannels.acquire(for: owner) {
                return try adopt(channel)
            }
            guard let connection = try await connection() else { continue }
            do throws(AMQPError) {
                let channel = try await connection.openChannel()
                if let owner = settings.owner { pool.keptChannels.register(channel, for: owner) }
                return try adopt(channel)
            } catch {
                try Task.checkCancellation()
                state.withLock { $0.connection = nil }
                let delay = settings.backoff.delay(afterFailures: 1, random: .random(in: 0..<1))
                report(BrokerStory.Failure("open a channel", error), retryIn: delay)
                try await Task.sleep(for: delay)
            }
        }
    }

    /// The same connection as before while it is open, because an exclusive queue exists only there.
    private func connection() async throws -> AMQPConnection? {
        let before = state.withLock { $0.connection }
        if let before, before.closedError == nil, !before.isBlocked { return before }
        return try await pool.connection(within: .seconds(1))
    }

    private func adopt(_ channel: AMQPChannel) throws(AMQPError) -> ConsumerSession {
        let session = ConsumerSession(
            on: channel,
            runner: runner,
            prepare: prepare,
            isStream: { [pool, settings] in await pool.isStream(settings.queue) },
            onOffset: { [weak self] offset in
                self?.state.withLock { $0.offset = offset }
                self?.settings.onOffset(offset)
            }
        )
        let isOver = state.withLock { state in
            if !state.isOver {
                state.session = session
                state.connection = channel.connection
            }
            return state.isOver
        }
        guard isOver else { return session }
        session.end()
        release(channel)
        throw .cancelled(operation: "consuming")
    }

    private func discard(_ session: ConsumerSession) async {
        state.withLock { if $0.session === session { $0.session = nil } }
        session.end()
        if let owner = settings.owner { pool.keptChannels.remove(session.channel, of: owner) }
        // Nothing has to wait for the close: later deliveries are ignored.
        session.channel.beginClose()
    }

    // MARK: Changes at run time

    /// Stops consuming until ``resume()``: deliveries that have not been started are returned to the broker.
    package func pause() async {
        await reconfigure { state in
            state.isPaused = true
            if state.resumed == nil { state.resumed = OneShot() }
        }
    }

    package func resume() {
        let resumed = state.withLock { state in
            state.isPaused = false
            defer { state.resumed = nil }
            return state.resumed
        }
        resumed?.set(())
    }

    /// Changes the maximum number of unsettled deliveries. The consumer is started again; running handlers are not affected.
    package func setPrefetch(_ prefetch: UInt16) async {
        await reconfigure { $0.prefetch = max(1, prefetch) }
    }

    private func reconfigure(_ change: (inout sending State) -> Void) async {
        let (session, consuming) = state.withLock { state in
            change(&state)
            return (state.session, state.consuming)
        }
        // A closed channel has already reported its end.
        guard let session, let consuming, session.channel.closedError == nil else { return }
        await session.reconfigure(consuming)
    }

    private func waitWhilePaused() async throws {
        while let resumed = state.withLock({ $0.isPaused ? $0.resumed : nil }) {
            guard await resumed.wait() != nil else { throw CancellationError() }
        }
    }

    // MARK: Ending

    /// The current source of its deliveries.
    package var source: DeliveryCore.Source? { state.withLock { $0.session }?.source }

    /// Accepts no more deliveries. ``run()`` must have ended.
    package func cancel(timeout: Duration) async {
        guard let session = state.withLock({ $0.session }), session.channel.closedError == nil else { return }
        await session.cancel(timeout: timeout)
    }

    /// Closes the channel in order; the broker requeues its unsettled deliveries.
    package func close() async {
        guard let channel = end()?.session.channel else { return }
        if let owner = settings.owner { pool.keptChannels.remove(channel, of: owner) }
        await channel.close()
    }

    /// Called when the process has ended, for any reason. Does nothing after ``close()``.
    package func ended(_ reason: ExitReason) {
        let mayBeStream = state.withLock { $0.session }?.mayBeStream ?? false
        guard let (session, begun) = end() else { return }
        // A stream cannot requeue, and asking it to closes the connection.
        guard let owner = settings.owner, reason.isAbnormal, !mayBeStream else { return release(session.channel) }
        pool.keptChannels.release(session.channel, consumer: session.tag, begun: begun, of: owner)
    }

    private func end() -> (session: ConsumerSession, begun: [UInt64])? {
        let session = state.withLock { state in
            state.isOver = true
            defer { state.session = nil }
            return state.session
        }
        return session.map { ($0, $0.end()) }
    }

    private func release(_ channel: AMQPChannel) {
        if let owner = settings.owner { pool.keptChannels.remove(channel, of: owner) }
        channel.beginClose()
    }
}

extension AMQPPool {
    /// Whether a queue that is being consumed is a stream. Streams do not count consumers: a passive declaration shows none.
    ///
    /// If that cannot be determined, the queue is treated as a stream, because anything but an acknowledgement closes the connection of a
    /// stream's consumer.
    fileprivate func isStream(_ queue: String) async -> Bool {
        let status = try? await withDedicatedChannel { try await $0.declareQueue(queue, passive: true) }
        return status.map { $0.consumerCount == 0 } ?? true
    }
}

extension AMQPError {
    fileprivate var isTimeout: Bool {
        if case .timedOut = cause { true } else { false }
    }
}

extension MissingQueuePolicy {
    fileprivate func isOver(since begun: ContinuousClock.Instant?) -> Bool {
        guard case .fail(let limit) = self, let begun else { return false }
        return begun.duration(to: .now) >= limit
    }
}

extension ConsumerSession.Interruption {
    fileprivate var loss: BrokerStory.Loss {
        switch self {
        case .channelEnded(let error): BrokerStory.Loss(error)
        case .cancelledByBroker:
            BrokerStory.Loss(
                reason: "the broker cancelled the consumer: the queue was deleted, or its node failed",
                isOrderly: false,
                one: "a queue",
                all: "its queue"
            )
        case .reconfigured: BrokerStory.Loss(reason: "reconfigured", isOrderly: true, one: "a queue", all: "its queue")
        }
    }
}
