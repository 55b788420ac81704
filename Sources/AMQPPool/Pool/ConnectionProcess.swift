internal import ConcurrencyPrimitives
import Logging
package import Supervision
import Synchronization

/// The supervised connection: starts immediately, connects in the background, ends when the open connection is lost.
///
/// While it cannot connect it stays alive and retries forever: an outage is not a failure of this process. When it is stopped, it closes
/// the connection by handshake; when it is killed, its kill hook does. A process that leases the connection of another pool waits until
/// that is open, and leaves it open when it ends: the channels on it are closed by their own processes.
package actor ConnectionProcess: Worker {
    private struct State {
        var connection: AMQPConnection?
        /// Killed: connections opened from now on are closed immediately.
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
    nonisolated var connection: AMQPConnection? {
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

    /// Waits until the connection is closed, and renews its credentials in the meantime.
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

    /// The kill hook. It does not run on this actor, which may be stuck, but on the event loop.
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
        var attempts = ConnectAttempts(backoff: backoff, bootPolicy: bootPolicy)
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
                let actions = attempts.failed(
                    error,
                    hasFailedEverywhere: registry.hasFailed(at: endpoints),
                    random: .random(in: 0..<1)
                )
                for action in actions { try await perform(action, at: endpoint) }
            }
        }
    }

    private func perform(_ action: ConnectAttempts.Action, at endpoint: Endpoint) async throws {
        switch action {
        case .report(let error, let delay): registry.attemptFailed(number, at: endpoint, error, retryIn: delay)
        case .retry(let delay): try await Task.sleep(for: delay)
        case .endPool(let error):
            (context.supervisor.parent?.parent ?? context.supervisor.root).pid.exit(.shutdown(cause: error))
            _ = await OneShot<Never>().wait()
            try Task.checkCancellation()
        }
    }
}

/// Iterates over a list of endpoints round robin, across the incarnations of a connection.
final class EndpointRotation: Sendable {
    private struct State {
        var endpoints: [(Endpoint, AddressWalk)]
        var index: Int
    }

    private let state: Mutex<State>
    private let shuffles: Bool

    /// - Parameters:
    ///   - offset: Where to begin, so that several connections spread over the list.
    ///   - shuffles: Whether each round has another order; the offset is irrelevant then.
    init?(_ endpoints: [Endpoint], offset: Int, shuffles: Bool = false) {
        guard !endpoints.isEmpty else { return nil }
        self.shuffles = shuffles
        state = Mutex(
            State(endpoints: endpoints.map { ($0, AddressWalk()) }, index: shuffles ? 0 : offset % endpoints.count)
        )
    }

    /// The endpoint of the next attempt, and the position among its addresses.
    func next() -> (Endpoint, AddressWalk) {
        state.withLock { state in
            if shuffles, state.index == 0 { state.endpoints.shuffle() }
            defer { state.index = (state.index + 1) % state.endpoints.count }
            return state.endpoints[state.index]
        }
    }
}
