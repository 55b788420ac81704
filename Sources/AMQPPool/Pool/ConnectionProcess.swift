internal import ConcurrencyPrimitives
import Logging
package import Supervision
import Synchronization

/// The supervised connection: comes up at once, connects in the background, ends when the open connection is lost.
///
/// While it cannot connect it is alive and tries for ever: an outage is no failure of this process. Stopped, it closes by
/// handshake; killed, its kill hook does. One that leases the connection of another pool waits until that is open, and leaves it
/// open when it ends itself: the channels on it are closed by their own processes.
package actor ConnectionProcess: Worker {
    private struct State {
        var connection: AMQPConnection?
        /// Killed: what is opened from now on is closed at once.
        var isFenced = false
    }

    private let context: ChildContext
    private let number: Int
    private let source: ConnectionSource
    private let rotation: EndpointRotation
    private let configuration: ConnectionConfiguration
    private let backoff: Backoff
    private let bootPolicy: BootPolicy
    private let endpoints: [Endpoint]
    private let killTimeout: Duration
    private let registry: ChannelRegistry
    private let logger: Logger
    private nonisolated let state = Mutex(State())
    nonisolated let opened = OneShot<AMQPConnection>()

    init(
        _ context: ChildContext,
        _ number: Int,
        source: ConnectionSource,
        rotation: EndpointRotation,
        configuration: ConnectionConfiguration,
        backoff: Backoff,
        bootPolicy: BootPolicy,
        endpoints: [Endpoint],
        killTimeout: Duration,
        registry: ChannelRegistry,
        logger: Logger
    ) {
        self.context = context
        self.number = number
        self.source = source
        self.rotation = rotation
        self.configuration = configuration
        self.backoff = backoff
        self.bootPolicy = bootPolicy
        self.endpoints = endpoints
        self.killTimeout = killTimeout
        self.registry = registry
        self.logger = logger
    }

    /// The open connection, if there is one.
    package nonisolated var connection: AMQPConnection? {
        state.withLock { $0.connection }.flatMap { $0.closedError == nil ? $0 : nil }
    }

    package func run() async throws {
        let connection: AMQPConnection
        switch source {
        case .own: connection = try await connect()
        case .leased(let leases): connection = try await leases.lease(number: number)
        }
        let isFenced = state.withLock { state in
            state.connection = connection
            return state.isFenced
        }
        if isFenced { return await close(connection, timeout: killTimeout) }
        connection.onBlockedChanged { [registry] in registry.blockedChanged() }
        registry.connected(connection, number: number)
        opened.set(connection)
        if case .own(let leases?) = source { leases.opened(connection, number: number) }
        if let error = await closed(connection) { throw error }
    }

    /// Waits until the connection is over, and renews what it logged in with meanwhile.
    private nonisolated func closed(_ connection: AMQPConnection) async -> AMQPError? {
        guard case .own = source,
            let renewal = CredentialsRenewal(of: connection, configuration: configuration, logger: logger)
        else { return await connection.waitUntilClosed() }
        return await withTaskGroup(of: Void.self) { group in
            group.addTask { await renewal.run() }
            defer { group.cancelAll() }
            return await connection.waitUntilClosed()
        }
    }

    package func terminate(reason: ExitReason) async {
        if let connection { await close(connection) }
    }

    /// The kill hook: not on this actor, which may be stuck, but on the event loop.
    nonisolated func killed() async {
        let connection = state.withLock { state in
            state.isFenced = true
            return state.connection
        }
        if let connection { await close(connection, timeout: killTimeout) }
    }

    private nonisolated func close(_ connection: AMQPConnection, timeout: Duration? = nil) async {
        switch source {
        case .own: await connection.close(timeout: timeout)
        case .leased: break
        }
    }

    private func connect() async throws -> AMQPConnection {
        var failures = 0
        while true {
            try Task.checkCancellation()
            let (endpoint, addresses) = rotation.next()
            let begun = ContinuousClock.now
            registry.connecting(to: endpoint, at: begun)
            do {
                let connection = try await AMQPConnection.open(
                    endpoint,
                    configuration: configuration,
                    addresses: addresses,
                    logger: logger
                )
                registry.ended(endpoint, begun: begun, .success(()))
                return connection
            } catch {
                registry.ended(endpoint, begun: begun, Task.isCancelled ? nil : .failure(error))
                try Task.checkCancellation()
                if isRefusedForGood(error) {
                    registry.attemptFailed(number, at: endpoint, error, retryIn: nil)
                    // As for a topology that is refused: no waiting repairs it, and whoever has the pool decides what follows.
                    (context.supervisor.parent?.parent ?? context.supervisor.root).pid.exit(.shutdown(cause: error))
                    _ = await OneShot<Never>().wait()
                    try Task.checkCancellation()
                }
                failures += 1
                let delay = backoff.delay(afterFailures: failures, random: .random(in: 0..<1))
                registry.attemptFailed(number, at: endpoint, error, retryIn: delay)
                try await Task.sleep(for: delay)
            }
        }
    }
}

extension ConnectionProcess {
    /// Whether the pool ends with this.
    private func isRefusedForGood(_ error: AMQPError) -> Bool {
        if case .tooFewChannels = error { return true }
        guard bootPolicy == .failWhenRefused, error.isRefusal else { return false }
        return registry.refusesBoot(of: endpoints)
    }
}

/// Walks a list of endpoints round robin, across the incarnations of a connection.
final class EndpointRotation: Sendable {
    private struct State {
        var endpoints: [(Endpoint, AddressWalk)]
        var index: Int
    }

    private let state: Mutex<State>
    private let shuffles: Bool

    /// - Parameters:
    ///   - offset: where to begin, so that several connections spread over the list.
    ///   - shuffles: whether each round has another order; then the offset does not matter.
    init?(_ endpoints: [Endpoint], offset: Int, shuffles: Bool = false) {
        guard !endpoints.isEmpty else { return nil }
        self.shuffles = shuffles
        state = Mutex(
            State(endpoints: endpoints.map { ($0, AddressWalk()) }, index: shuffles ? 0 : offset % endpoints.count)
        )
    }

    /// The endpoint of the next attempt, and where among its addresses the attempts are.
    func next() -> (Endpoint, AddressWalk) {
        state.withLock { state in
            if shuffles, state.index == 0 { state.endpoints.shuffle() }
            defer { state.index = (state.index + 1) % state.endpoints.count }
            return state.endpoints[state.index]
        }
    }
}
