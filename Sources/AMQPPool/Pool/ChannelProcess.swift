internal import ConcurrencyPrimitives
import Logging
package import Supervision
import Synchronization

/// The supervised channel: starts immediately, waits for its connection, opens, runs the set-up, and registers.
///
/// It ends when the broker closes the channel, unless that was because of a published message: then it opens another one immediately. It
/// does not end because its connection did: then it only waits to be stopped by its supervisor (rest for one).
package actor ChannelProcess: Worker {
    /// The pool's callbacks for its channels.
    struct Hooks: Sendable {
        /// Whether channels are in confirm mode before they are used.
        var confirms: Bool
        var onOpen: @Sendable (AMQPChannel, ChildContext) async throws -> Void
        var onStop: (@Sendable (AMQPChannel) async -> Void)?
        var onClose: (@Sendable (AMQPChannel) -> Void)?
    }

    private struct State {
        var channel: AMQPChannel?
        /// Killed: channels opened from now on are closed immediately.
        var isFenced = false
    }

    private let context: ChildContext
    private let connection: ChildReference<ConnectionProcess>
    private let registry: ChannelRegistry
    private let history: ChannelHistory
    private let hooks: Hooks
    private let outbox: ChannelOutbox.Bounds
    private let backoff: Backoff
    private let shutdown: Duration
    private let killTimeout: Duration
    private nonisolated let state = Mutex(State())
    /// Fires when the work that a stop waits for is done or abandoned.
    private nonisolated let worked = OneShot<Void>()

    init(
        _ context: ChildContext,
        connection: ChildReference<ConnectionProcess>,
        registry: ChannelRegistry,
        history: ChannelHistory,
        hooks: Hooks,
        outbox: ChannelOutbox.Bounds,
        backoff: Backoff,
        shutdown: Duration,
        killTimeout: Duration
    ) {
        self.context = context
        self.connection = connection
        self.registry = registry
        self.history = history
        self.hooks = hooks
        self.outbox = outbox
        self.backoff = backoff
        self.shutdown = shutdown
        self.killTimeout = killTimeout
    }

    /// The open channel, if there is one.
    nonisolated var channel: AMQPChannel? {
        state.withLock { $0.channel }.flatMap { $0.closedError == nil ? $0 : nil }
    }

    package func run() async throws {
        // There is no process only between the end of the connection and the stop of this one because of it.
        guard let process = try? connection.resolve(), let connection = await process.opened.wait() else {
            return try await waitToBeStopped()
        }
        var isOpen = false
        do {
            var failures = 0
            while true {
                let begun = ContinuousClock.now
                isOpen = false
                let channel = try await open(on: connection)
                try await hooks.onOpen(channel, context)
                isOpen = true
                history.opened()
                registry.add(channel, for: context.pid)
                guard let error = await channel.waitUntilClosed() else { throw CancellationError() }
                // One invalid message is not a fault of the channel: other users need it back immediately.
                guard channel.isClosedForPublish, !connection.isEnding else { throw error }
                context.logger.warning(
                    "the broker closed a channel because of a message",
                    metadata: ["error": "\(error)"]
                )
                failures = begun.duration(to: .now) < .seconds(1) ? failures + 1 : 0
                if failures > 0 {
                    try await Task.sleep(for: backoff.delay(afterFailures: failures, random: .random(in: 0..<1)))
                }
                try Task.checkCancellation()
            }
        } catch {
            // Checked first: if the broker closes the connection because of the declaration, this process may be stopped because of the
            // connection before it learns of its channel's error.
            let refusal = isOpen ? nil : topologyRefusal()
            let isStopped = Task.isCancelled
            let own: (any Error)? = isStopped || connection.isEnding ? nil : error
            let told = refusal ?? reasonOfBroker(error) ?? connection.closedError.flatMap { reasonOfBroker($0) }
            // The broker closed the connection for a reason while the channel was being opened: waiting callers need that reason.
            if !isOpen, let reason: any Error = told ?? own {
                registry.failedToSetUp(connection, reason)
                history.told()
            }
            if refusal == nil || isStopped && connection.closedError == nil { try Task.checkCancellation() }
            if connection.isEnding, refusal == nil { return try await waitToBeStopped() }
            if let refusal {
                if history.isMistake(refusal) {
                    // Not the root of the tree that contains the pool: the pool's owner decides what follows.
                    (poolOwner ?? context.supervisor.root).pid.exit(.shutdown(cause: refusal))
                    return try await waitToBeStopped()
                }
            }
            if connection.isEnding { return try await waitToBeStopped() }
            throw error
        }
    }

    /// Takes at most ``PoolConfiguration/channelShutdown``, whatever the broker, the network and `onStop` do; and after a kill, at most the
    /// kill timeout.
    package func terminate(reason: ExitReason) async {
        guard let channel else { return }
        let deadline = ContinuousClock.now + shutdown
        let closeTimeout = channel.configuration.closeTimeout
        let closing = min(closeTimeout, shutdown / 2)
        if let onStop = hooks.onStop {
            let work = Task { [worked] in
                await onStop(channel)
                worked.set(())
            }
            _ = await worked.wait(atMost: shutdown - closing)
            work.cancel()
        }
        await channel.close(timeout: min(closeTimeout, max(closing, ContinuousClock.now.duration(to: deadline))))
    }

    /// The kill hook. It does not run on this actor, which may be stuck, but on the event loop.
    nonisolated func killed() async {
        let channel = state.withLock { state in
            state.isFenced = true
            return state.channel
        }
        worked.set(())
        await channel?.close(timeout: killTimeout)
    }

    private func open(on connection: AMQPConnection) async throws -> AMQPChannel {
        let channel = try await connection.openChannel(outbox: outbox)
        let isFenced = state.withLock { state in
            state.channel = channel
            return state.isFenced
        }
        if let onClose = hooks.onClose { channel.onClosed { [weak channel] _ in channel.map(onClose) } }
        guard !isFenced else {
            await channel.close(timeout: killTimeout)
            throw CancellationError()
        }
        if hooks.confirms { try await channel.selectConfirms() }
        return channel
    }

    /// The supervisor above the pool: the supervisors of the channel, the connection and the pool are in between.
    private var poolOwner: SupervisorReference? {
        context.supervisor.parent?.parent?.parent
    }

    /// Why the broker closed the whole connection while the channel was being opened, for example because of the user's channel limit. 320
    /// means an operator's action, or a broker that is shutting down.
    private func reasonOfBroker(_ error: any Error) -> AMQPError? {
        guard let error = error as? AMQPError, case .connectionClosedByBroker(let code, _) = error.cause, code != 320
        else {
            return nil
        }
        return error
    }

    /// What the broker refused while the channel was being set up, even if `onOpen` hid the error.
    private func topologyRefusal() -> AMQPError? {
        guard let error = state.withLock({ $0.channel })?.closedError else { return nil }
        return switch error.refusal {
        case .operation(403, _), .operation(406, _), .topology: error
        case .operation, .message, nil: nil
        }
    }

    private func waitToBeStopped() async throws {
        _ = await OneShot<Never>().wait()
        try Task.checkCancellation()
    }
}

/// The history of a pool's channel across its incarnations.
final class ChannelHistory: Sendable {
    private struct State {
        var wasOpen = false
        var refusals = 0
        var isEndTold = false
    }

    /// How often in succession the broker has to close the connection because of an operation before that counts as a configuration error.
    /// A cluster that is starting, or electing a leader, also answers 541 for operations that would succeed a moment later.
    static let maximumRefusals = 3

    private let state = Mutex(State())

    func opened() {
        state.withLock { state in
            state.wasOpen = true
            state.refusals = 0
            state.isEndTold = false
        }
    }

    /// Records that the pool has reported the failure of the set-up.
    func told() {
        state.withLock { $0.isEndTold = true }
    }

    /// Whether the pool reports the end of the channel.
    var isEndTold: Bool { state.withLock { $0.isEndTold } }

    /// Whether the refusal is a configuration error, which no restart repairs. Once the channel has been open, it is a fault of the
    /// environment.
    func isMistake(_ refusal: AMQPError) -> Bool {
        state.withLock { state in
            if state.wasOpen { return false }
            guard case .topologyRefused = refusal else { return true }
            state.refusals += 1
            return state.refusals >= Self.maximumRefusals
        }
    }
}
