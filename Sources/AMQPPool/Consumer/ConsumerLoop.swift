internal import ConcurrencyPrimitives
import Logging
import Supervision
import Synchronization

/// Keeps a queue consumed: waits for a channel of its own, sets it up, consumes, and begins again whenever that ends.
final class ConsumerLoop: Sendable {
    struct Settings: Sendable {
        var queue: String
        /// Under what name the channel is kept; nil keeps none.
        var owner: String?
        var prefetch: UInt16
        var exclusive = false
        var arguments = ConsumerArguments()
        var missingQueue = MissingQueuePolicy.wait
        /// Whether messages are published on the channel.
        var confirms = false
        var backoff: Backoff
        var onOpen: @Sendable (AMQPChannel) async throws -> Void
        var logger: Logger
    }

    private struct State {
        var session: ConsumerSession?
        /// Its owner has ended: what is opened from now on is closed at once.
        var isOver = false
    }

    let deliveries = DeliveryQueue()
    private let pool: AMQPPool
    private let settings: Settings
    private let state = Mutex(State())

    init(_ settings: Settings, pool: AMQPPool) {
        self.settings = settings
        self.pool = pool
    }

    // MARK: Running

    /// Consumes until the task is cancelled.
    ///
    /// - Throws: `CancellationError`; what `onOpen` throws by itself; arguments that cannot be sent; the broker's refusal of what
    ///   it declares (403, 406) when it was never accepted before, which is a mistake that no waiting repairs; and its answer that
    ///   there is no queue, if the policy says so.
    func run() async throws {
        var failures = 0
        var wasOpen = false
        var missingSince: ContinuousClock.Instant?
        while true {
            let session = try await session()
            let interruption: OneShot<ConsumerSession.Interruption>?
            do {
                try await settings.onOpen(session.channel)
                wasOpen = true
                interruption = try await consume(on: session)
                missingSince = nil
            } catch {
                try Task.checkCancellation()
                guard let error = error as? AMQPError, !error.isMistake,
                    wasOpen || ![403, 406].contains(error.replyCode)
                else { throw error }
                if error.replyCode == 404 {
                    missingSince = missingSince ?? .now
                    if settings.missingQueue.isOver(since: missingSince) { throw error }
                }
                settings.logger.warning(
                    "cannot consume",
                    metadata: ["queue": "\(settings.queue)", "error": "\(error)"]
                )
                interruption = nil
            }
            let begun = ContinuousClock.now
            if let interruption {
                guard let reason = await interruption.wait() else { throw CancellationError() }
                settings.logger.warning(
                    "consuming was interrupted",
                    metadata: ["queue": "\(settings.queue)", "reason": "\(reason)"]
                )
            }
            failures = begun.duration(to: .now) >= settings.backoff.resetAfter ? 1 : failures + 1
            try await Task.sleep(
                for: settings.backoff.delay(afterFailures: failures, random: .random(in: 0..<1))
            )
        }
    }

    private func consume(on session: ConsumerSession) async throws -> OneShot<ConsumerSession.Interruption> {
        if settings.confirms { try await session.channel.selectConfirms() }
        try await session.channel.setPrefetch(settings.prefetch)
        return try await session.consume(
            settings.queue,
            exclusive: settings.exclusive,
            arguments: settings.arguments.fieldTable()
        )
    }

    /// The channel as before, the one that an earlier incarnation left, or a new one.
    private func session() async throws -> ConsumerSession {
        if let session = state.withLock({ $0.session }), session.channel.closedError == nil { return session }
        while true {
            try Task.checkCancellation()
            if let owner = settings.owner, let channel = await pool.keptChannels.take(for: owner) {
                return try adopt(channel)
            }
            guard let connection = try await pool.connection(within: .seconds(1)) else { continue }
            do throws(AMQPError) {
                let channel = try await connection.openChannel()
                if let owner = settings.owner { pool.keptChannels.hold(channel, for: owner) }
                return try adopt(channel)
            } catch {
                try Task.checkCancellation()
                settings.logger.warning("cannot open a channel", metadata: ["error": "\(error)"])
                try await Task.sleep(for: settings.backoff.delay(afterFailures: 1, random: .random(in: 0..<1)))
            }
        }
    }

    private func adopt(_ channel: AMQPChannel) throws(AMQPError) -> ConsumerSession {
        let session = ConsumerSession(on: channel, into: deliveries)
        let isOver = state.withLock { state in
            if !state.isOver { state.session = session }
            return state.isOver
        }
        guard isOver else { return session }
        release(channel)
        throw .cancelled(operation: "consuming")
    }

    // MARK: Ending

    /// Takes nothing more on and waits for what is being handled. ``run()`` must have ended.
    ///
    /// - Returns: whether all was settled in time.
    func drain(timeout: Duration) async -> Bool {
        guard let session = state.withLock({ $0.session }), session.channel.closedError == nil else { return true }
        return await session.drain(before: .now + timeout)
    }

    /// Over, as intended: the channel is closed, and the broker requeues what is unsettled on it.
    func close() async {
        deliveries.finish()
        guard let channel = end()?.channel else { return }
        if let owner = settings.owner { pool.keptChannels.forget(channel, of: owner) }
        await channel.close()
    }

    /// Its process has ended, whichever way. After ``close()`` this does nothing.
    func ended(_ reason: ExitReason) {
        deliveries.finish()
        guard let session = end() else { return }
        guard let owner = settings.owner, reason.isAbnormal else { return release(session.channel) }
        pool.keptChannels.leave(session.channel, consumer: session.tag, of: owner)
    }

    private func end() -> ConsumerSession? {
        let session = state.withLock { state in
            state.isOver = true
            defer { state.session = nil }
            return state.session
        }
        session?.end()
        return session
    }

    private func release(_ channel: AMQPChannel) {
        if let owner = settings.owner { pool.keptChannels.forget(channel, of: owner) }
        Task.detached { await channel.close() }
    }
}

extension AMQPError {
    /// Wrong whenever it is tried.
    fileprivate var isMistake: Bool {
        switch cause {
        case .invalidArgument, .unencodable: true
        default: false
        }
    }
}

extension MissingQueuePolicy {
    fileprivate func isOver(since begun: ContinuousClock.Instant?) -> Bool {
        guard case .fail(let limit) = self, let begun else { return false }
        return begun.duration(to: .now) >= limit
    }
}
