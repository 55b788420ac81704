internal import ConcurrencyPrimitives
public import Logging
import NIOCore
import NIOPosix
import Synchronization

/// An AMQP connection over one TCP connection, from the handshake to the close.
///
/// Its executor is its NIO event loop, which its channels share: an `await` between them does not switch threads. It stays open until
/// ``close(timeout:)``, the broker or the network ends it; it is not reopened. When it ends, every pending operation and message of its
/// channels gets its outcome, exactly once.
public actor AMQPConnection {
    /// The endpoint of the connection.
    public nonisolated let endpoint: Endpoint
    /// How long its credentials are valid; `nil` if they do not expire.
    nonisolated let credentialsLease: CredentialsLease?
    /// The user that logged in. With a client certificate the broker may know it under another name.
    public nonisolated let username: String
    nonisolated let configuration: ConnectionConfiguration
    nonisolated let eventLoop: any EventLoop
    nonisolated let addresses: AddressWalk
    nonisolated let logger: Logger
    nonisolated let end = OneShot<AMQPError>()
    nonisolated let identity = OneShot<BrokerIdentity>()
    private nonisolated let executor: any SerialExecutor
    nonisolated let ending = Atomic(false)
    nonisolated let over = Atomic(false)
    private nonisolated let blocked = Mutex<String?>(nil)
    private nonisolated let blockedFlag = Atomic(false)
    private nonisolated let blockedHandlers = Mutex<[@Sendable () -> Void]>([])
    nonisolated let stateBroadcast = StateBroadcast(ConnectionState.open)

    var machine: ConnectionStateMachine
    var transport: (any NIOCore.Channel)?
    let tls: TLSSession?
    let decoder: FrameDecoder
    let encoder: FrameEncoder
    var ids: ChannelIDs
    /// By channel number. A channel stays until the broker has released its number.
    var channels: [AMQPChannel?] = []
    var opening: CheckedContinuation<Result<Void, AMQPError>, Never>?
    var openDeadline: Scheduled<Void>?
    var closeDeadline: CloseDeadline?
    var tick: Scheduled<Void>?

    var batch = WriteBatch()
    var secretUpdates = SecretUpdates()
    var isFlushScheduled = false
    var isReading = false
    /// Whether a channel found no room, and waits to be called.
    var hasStalledChannel = false
    /// The channel number at which the next round begins, so that a channel with constant traffic does not starve others.
    var nextDrained = 0

    /// The event loop.
    public nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    private init(
        _ endpoint: Endpoint,
        credentials: Credentials,
        tls: TLSSession?,
        configuration: ConnectionConfiguration,
        addresses: AddressWalk,
        logger: Logger
    ) {
        self.tls = tls
        self.addresses = addresses
        self.endpoint = endpoint
        username = credentials.username
        self.configuration = configuration
        self.logger = logger
        credentialsLease = CredentialsLease(credentials)
        eventLoop = configuration.eventLoopGroup.next()
        executor = eventLoop.executor
        // Whole seconds on the wire; a fraction must not be rounded to 0, which would leave the choice to the broker.
        let (seconds, fraction) = (endpoint.heartbeat ?? configuration.heartbeat).components
        let heartbeat = min(seconds, 65_535) + (fraction > 0 ? 1 : 0)
        // RabbitMQ's minimum since 4.1: it drops connections with a smaller frame size.
        let frameMax = max(8192, configuration.maximumFrameSize)
        let channelMax = endpoint.channelMax ?? configuration.maximumChannels
        machine = ConnectionStateMachine(
            login: .init(
                endpoint: endpoint.redacted,
                virtualHost: endpoint.virtualHost,
                username: credentials.username,
                password: credentials.password,
                connectionName: configuration.name,
                channelMax: channelMax,
                requiredChannels: configuration.requiredChannels,
                frameMax: frameMax,
                heartbeat: UInt16(clamping: heartbeat),
                mechanisms: endpoint.loginMechanisms,
                isEncrypted: tls != nil
            )
        )
        decoder = FrameDecoder(maximumFrameSize: frameMax)
        encoder = FrameEncoder(maximumFrameSize: frameMax)
        ids = ChannelIDs(limit: channelMax)
    }

    // MARK: Open and close

    /// Connects, authenticates and opens the virtual host.
    ///
    /// The name is resolved again for each connection, and the files for TLS are read again if they have changed. Takes at most
    /// ``ConnectionConfiguration/connectTimeout``, and as long again for a ``CredentialsProvider``; ends early when the task is cancelled.
    /// At most 64 attempts run concurrently in this process: the time limit of a waiting attempt begins with its turn.
    ///
    /// - Throws: ``AMQPError/connectFailed(endpoint:reason:)``, ``AMQPError/tlsFailed(endpoint:_:)``,
    ///   ``AMQPError/authenticationFailed(endpoint:text:)``, ``AMQPError/virtualHostRefused(endpoint:virtualHost:code:text:)``,
    ///   ``AMQPError/handshakeFailed(endpoint:stage:reason:)``, ``AMQPError/invalidEndpoint(_:)``, ``AMQPError/invalidArgument(_:)`` for an
    ///   invalid setting, or ``AMQPError/cancelled(operation:)``.
    public static func open(
        _ endpoint: Endpoint,
        configuration: ConnectionConfiguration = ConnectionConfiguration(),
        logger: Logger = Logger(label: "amqp-pool")
    ) async throws(AMQPError) -> AMQPConnection {
        try await open(endpoint, configuration: configuration, addresses: AddressWalk(), logger: logger)
    }

    /// The same for repeated attempts: each begins with another address of the host than the one before.
    static func open(
        _ endpoint: Endpoint,
        configuration: ConnectionConfiguration,
        addresses: AddressWalk,
        logger: Logger
    ) async throws(AMQPError) -> AMQPConnection {
        do throws(EndpointError) {
            try endpoint.checkConnectable()
        } catch {
            throw .invalidEndpoint(error)
        }
        try configuration.check()
        try configuration.check(endpoint)
        guard case .admitted = await ConcurrencyLimit.connecting.acquire() else {
            throw .cancelled(operation: "connecting to \(endpoint.redacted)")
        }
        defer { ConcurrencyLimit.connecting.release() }
        let timeout = (endpoint.connectionTimeout ?? configuration.connectTimeout).bounded
        var tls: TLSSession?
        if endpoint.tls {
            tls = try await TLSSession.make(for: endpoint, configuration.tls, timeout: timeout, logger: logger)
        }
        var credentials = Credentials(username: endpoint.username, password: endpoint.password)
        if let provider = configuration.credentials {
            credentials = try await provider.credentials(for: endpoint, timeout: timeout)
        }
        let connection = AMQPConnection(
            endpoint,
            credentials: credentials,
            tls: tls,
            configuration: configuration,
            addresses: addresses,
            logger: logger
        )
        try await connection.open()
        return connection
    }

    private func open() async throws(AMQPError) {
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                opening = continuation
                connect()
            }
        } onCancel: {
            // Once it is open it belongs to the caller, cancelled or not.
            onEventLoop { connection in
                guard connection.opening != nil else { return }
                connection.abort(.cancelled(operation: "connecting to \(connection.endpoint.redacted)"))
            }
        }
        try result.get()
    }

    /// Closes the connection by handshake: submitted messages are written first, messages that are unconfirmed when the broker acknowledges
    /// count as delivered, and everything else that is pending fails.
    ///
    /// Returns when the connection is closed: after `timeout` at the latest, even if the socket is stuck, or a second later if the event
    /// loop is. With several callers the earliest deadline counts. A cancelled task returns immediately while the handshake continues.
    ///
    /// - Parameter timeout: `nil` is ``ConnectionConfiguration/closeTimeout``.
    public nonisolated func close(timeout: Duration? = nil) async {
        let timeout = (timeout ?? configuration.closeTimeout).bounded
        onEventLoop { $0.beginClose(timeout: timeout) }
        _ = await end.wait(atMost: timeout + .seconds(1))
    }

    private func beginClose(timeout: Duration) {
        ending.store(true, ordering: .releasing)
        guard end.current == nil else { return }
        if machine.isOpen {
            for channel in channels { channel?.assumeIsolated { $0.connectionClosing() } }
        }
        drive { $0.close(&$1) }
        guard machine.carriesChannels else { return }
        closeDeadline = CloseDeadline(after: timeout, unlessBefore: closeDeadline, on: eventLoop) {
            self.assumeIsolated { $0.abort(.timedOut(operation: "connection.close", after: timeout)) }
        }
    }

    /// Waits until the connection is closed, and returns why. Returns `nil` only when the task was cancelled first.
    public nonisolated func waitUntilClosed() async -> AMQPError? {
        await end.wait()
    }

    /// Why the connection is closed, `nil` while it is open.
    public nonisolated var closedError: AMQPError? { end.current }

    /// Whether ``closedError`` is set, for frequent reads.
    nonisolated var isOver: Bool { over.load(ordering: .acquiring) }

    /// Whether the connection is closed or closing: errors of its channels are then a consequence.
    nonisolated var isEnding: Bool { ending.load(ordering: .acquiring) }

    /// Calls `handler` when the connection is closed: on the event loop, or immediately if it is already closed. It must not block.
    package nonisolated func onClosed(_ handler: @escaping @Sendable (AMQPError) -> Void) {
        end.whenSet(handler)
    }

    /// Why the broker accepts no messages at present (`connection.blocked`); `nil` if it does.
    public nonisolated var blockedReason: String? { blocked.withLock { $0 } }

    nonisolated var isBlocked: Bool { blockedFlag.load(ordering: .acquiring) }

    /// Calls `handler` on the event loop each time the broker stops accepting messages, or accepts them again. It must not block.
    nonisolated func onBlockedChanged(_ handler: @escaping @Sendable () -> Void) {
        blockedHandlers.withLock { $0.append(handler) }
    }

    /// Whether nobody else reports that the broker stops accepting messages.
    nonisolated var isAlone: Bool { blockedHandlers.withLock { $0.isEmpty } }

    func setBlocked(_ reason: String?) {
        blocked.withLock { $0 = reason }
        let wasBlocked = blockedFlag.exchange(reason != nil, ordering: .acquiringAndReleasing)
        stateBroadcast.update { reason.map { .blocked(reason: $0) } ?? .open }
        guard wasBlocked != (reason != nil) else { return }
        for handler in blockedHandlers.withLock({ $0 }) { handler() }
    }

    // MARK: Channels

    /// Opens a channel.
    ///
    /// - Parameter timeout: `nil` is ``ConnectionConfiguration/operationTimeout``.
    /// - Throws: The error that ended the connection, ``AMQPError/tooManyChannels(limit:)``, ``AMQPError/timedOut(operation:after:)`` or
    ///   ``AMQPError/cancelled(operation:)``; if the broker opens the channel later, it is closed again.
    public func openChannel(timeout: Duration? = nil) async throws(AMQPError) -> AMQPChannel {
        try await openChannel(timeout: timeout, outbox: ChannelOutbox.Bounds(configuration))
    }

    /// The same with other limits of the outbox than the connection's.
    func openChannel(timeout: Duration? = nil, outbox: ChannelOutbox.Bounds) async throws(AMQPError) -> AMQPChannel {
        if let error = end.current { throw .notSent(error) }
        guard machine.isOpen else { throw .notSent(.connectionClosed) }
        guard let number = ids.allocate() else { throw .tooManyChannels(limit: ids.limit) }
        let channel = AMQPChannel(number: number, connection: self, outbox: outbox)
        while channels.count <= Int(number) { channels.append(nil) }
        channels[Int(number)] = channel
        configuration.metrics?.channels(1)
        try await channel.open(timeout: timeout)
        return channel
    }

    /// Runs the body with a new channel, which is closed afterwards: for operations that may fail and thereby close the channel, such as a
    /// passive declaration (404).
    package func withTemporaryChannel<Value: Sendable>(
        _ body: @Sendable (AMQPChannel) async throws(AMQPError) -> Value
    ) async throws(AMQPError) -> Value {
        let channel = try await openChannel()
        do {
            let value = try await body(channel)
            await channel.close()
            return value
        } catch {
            await channel.close()
            throw error
        }
    }

    /// Frees a channel's number after the broker has released it.
    func released(_ number: UInt16) {
        guard Int(number) < channels.count else { return }
        if channels[Int(number)] != nil { configuration.metrics?.channels(-1) }
        channels[Int(number)] = nil
        ids.release(number)
    }

    /// Runs `body` on the event loop, after what is currently running there.
    nonisolated func onEventLoop(_ body: @escaping @Sendable (isolated AMQPConnection) -> Void) {
        eventLoop.execute { self.assumeIsolated { body($0) } }
    }
}
