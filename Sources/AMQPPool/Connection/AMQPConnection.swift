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
    private nonisolated let addresses: AddressWalk
    nonisolated let logger: Logger
    private nonisolated let end = OneShot<AMQPError>()
    nonisolated let identity = OneShot<BrokerIdentity>()
    private nonisolated let executor: any SerialExecutor
    private nonisolated let ending = Atomic(false)
    private nonisolated let over = Atomic(false)
    private nonisolated let blocked = Mutex<String?>(nil)
    private nonisolated let blockedFlag = Atomic(false)
    private nonisolated let blockedHandlers = Mutex<[@Sendable () -> Void]>([])
    nonisolated let stateBroadcast = StateBroadcast(ConnectionState.open)

    private(set) var machine: ConnectionStateMachine
    private(set) var transport: (any NIOCore.Channel)?
    private let tls: TLSSession?
    private let decoder: FrameDecoder
    private let encoder: FrameEncoder
    private var ids: ChannelIDs
    /// By channel number. A channel stays until the broker has released its number.
    private(set) var channels: [AMQPChannel?] = []
    private nonisolated let opening = OneShot<Result<Void, AMQPError>>()
    private var openDeadline: Scheduled<Void>?
    private var closeDeadline: CloseDeadline?
    private var tick: Scheduled<Void>?

    private(set) var batch = WriteBatch()
    private var secretUpdates = SecretUpdates()
    private var isFlushScheduled = false
    private var isReading = false
    /// Whether a channel found no room, and waits to be called.
    private var hasStalledChannel = false
    /// The channel number at which the next round begins, so that a channel with constant traffic does not starve others.
    private var nextDrained = 0

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
        connect()
        let result = await withTaskCancellationHandler {
            await opening.settled()
        } onCancel: {
            // Once it is open it belongs to the caller, cancelled or not.
            onEventLoop { connection in
                guard connection.opening.current == nil else { return }
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
    nonisolated func onClosed(_ handler: @escaping @Sendable (AMQPError) -> Void) {
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
    private nonisolated var isAlone: Bool { blockedHandlers.withLock { $0.isEmpty } }

    private func setBlocked(_ reason: String?) {
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

/// The event loop side: writes, reads, and performs the actions of the state machine.
extension AMQPConnection {
    // MARK: Writing

    /// Whether the socket has taken everything so far, and the broker is reading.
    var isFlowing: Bool { machine.isOpen && machine.blockedReason == nil && !batch.isWriting }

    /// Encodes a method, which is written at the end of this tick; returns why if it cannot be encoded.
    func send(_ method: Method, channel: UInt16) -> EncodingError? {
        do throws(EncodingError) {
            try batch.append { buffer throws(EncodingError) in
                try encoder.encode(method, channel: channel, into: &buffer)
            }
            requestFlush()
            return nil
        } catch {
            return error
        }
    }

    /// Encodes a channel's entries, which are written at the end of this tick, up to the first entry that has to wait: the channel is
    /// called again when there may be room.
    func send(
        _ entries: ArraySlice<ChannelOutbox.Entry>,
        of channel: UInt16,
        room: Int,
        share: inout WriteBatch.Share,
        isLast: Bool
    ) -> WriteBatch.Written {
        let written = batch.append(
            entries,
            of: channel,
            room: room,
            share: &share,
            isLast: isLast,
            isOpen: machine.isOpen && machine.blockedReason == nil,
            by: encoder
        )
        if written.lacksRoom { hasStalledChannel = true }
        if written.count > 0 { requestFlush() }
        return written
    }

    /// Why a request cannot be encoded, `nil` if it can.
    func refusal(of method: Method) -> EncodingError? {
        var scratch = ByteBuffer()
        do {
            try encoder.encode(method, channel: 1, into: &scratch)
            return nil
        } catch {
            return error
        }
    }

    private func requestFlush() {
        guard !isFlushScheduled, !isReading, !batch.isWriting else { return }
        isFlushScheduled = true
        onEventLoop { $0.flush() }
    }

    private func flush() {
        isFlushScheduled = false
        guard let transport, let bytes = batch.begin() else { return }
        let written = eventLoop.makePromise(of: Void.self)
        written.futureResult.whenComplete { result in self.assumeIsolated { $0.wrote(result) } }
        transport.pipeline.syncOperations.writeAndFlush(NIOAny(bytes), promise: written)
    }

    private func wrote(_ result: Result<Void, any Error>) {
        // After a failed write the transport ends; nothing may be written any more.
        guard case .success = result else { return }
        batch.finished()
        machine.wrote(at: .now)
        if batch.isDue { requestFlush() }
        drainChannels()
    }

    /// Lets the channels that found no room write: first the acknowledgements at the head of their queues, then messages, an equal share
    /// per channel in turn until there is no room. A channel that publishes more than the socket takes therefore delays others by one write
    /// at most.
    private func drainChannels() {
        guard hasStalledChannel, isFlowing else { return }
        hasStalledChannel = false
        var waiting: [AMQPChannel] = []
        let inTurn = channels.suffix(from: min(nextDrained, channels.count)) + channels.prefix(nextDrained)
        for case let channel? in inTurn {
            if drain(channel, .acknowledgements) { waiting.append(channel) }
            // A channel's actions may end other channels and the connection.
            guard isFlowing else { return }
        }
        let share = max(WriteBatch.limit / max(1, waiting.count), 16_384)
        while !waiting.isEmpty, isFlowing, batch.hasRoom {
            var rest: [AMQPChannel] = []
            for channel in waiting where isFlowing && batch.hasRoom {
                let size = batch.size
                // A channel that wrote nothing waits for something other than room.
                if drain(channel, .bytes(share)), batch.size > size { rest.append(channel) }
                // The next write begins after the last channel that had its turn.
                nextDrained = Int(channel.number) + 1
            }
            waiting = rest
        }
        if !waiting.isEmpty || !batch.hasRoom { hasStalledChannel = true }
    }

    private func drain(_ channel: AMQPChannel, _ share: WriteBatch.Share) -> Bool {
        channel.assumeIsolated { $0.drainIfStalled(share) }
    }

    // MARK: Reading

    func received(_ bytes: ByteBuffer) {
        guard transport != nil else { return }
        isReading = true
        machine.read(at: .now)
        decoder.append(bytes)
        // Consecutive frames of one channel, which are passed to it together.
        var frames: [Frame] = []
        do throws(FrameError) {
            repeat {
                frames.removeAll(keepingCapacity: true)
                try decoder.next(Self.maximumFrames, into: &frames)
                handOver(frames)
            } while !isOver && !frames.isEmpty
        } catch {
            handOver(frames)
            fail(.protocolViolation("\(error)"))
        }
    }

    func readCompleted() {
        isReading = false
        if !isFlushScheduled { flush() }
    }

    /// Processes a frame of the connection itself.
    private func receive(_ frame: Frame) {
        if case .method(_, let method) = frame { drive { $0.receive(method, now: .now, &$1) } }
    }

    /// The maximum number of frames passed to a channel at once: entering the channel costs as much as processing one frame.
    private static let maximumFrames = 64

    /// Passes frames to their channel.
    private func handOver(_ frames: [Frame]) {
        guard !isOver, let number = frames.first?.channel else { return }
        guard number != 0 else {
            for frame in frames where !isOver { receive(frame) }
            return
        }
        if let channel = channel(number) { channel.assumeIsolated { $0.receive(frames) } }
    }

    private func channel(_ number: UInt16) -> AMQPChannel? {
        if machine.carriesChannels, Int(number) < channels.count, let channel = channels[Int(number)] { return channel }
        fail(.protocolViolation("a frame for channel \(number), which is not open"))
        return nil
    }

    /// Closes the connection because the peer violated the protocol.
    func fail(_ error: AMQPError) {
        drive { $0.fail(error, &$1) }
    }

    private func abort(_ error: AMQPError) {
        drive { $0.abort(error, &$1) }
    }

    // MARK: The transport

    private func connect() {
        let timeout = (endpoint.connectionTimeout ?? configuration.connectTimeout).bounded
        openDeadline = eventLoop.scheduleTask(in: TimeAmount(timeout)) {
            self.assumeIsolated { connection in connection.drive { $0.openTimedOut(after: timeout, &$1) } }
        }
        // Resolves the name, and tries its addresses in turn until one answers (RFC 8305).
        ClientBootstrap(group: eventLoop)
            .resolver(addresses.resolver(configuration.makeResolver?(eventLoop), on: eventLoop))
            .connectTimeout(TimeAmount(timeout))
            .channelInitializer { transport in
                transport.eventLoop.makeCompletedFuture { try transport.closeOnExec() }
            }
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .connect(host: endpoint.host, port: endpoint.port)
            .whenComplete { result in self.assumeIsolated { $0.connected(result) } }
    }

    private func connected(_ result: Result<any NIOCore.Channel, any Error>) {
        switch result {
        case .failure(let error): transportClosed(reason: AMQPError.connectFailureReason(error))
        case .success(let transport):
            guard end.current == nil else { return transport.close(promise: nil) }
            self.transport = transport
            drive { $0.connected(&$1) }
            do {
                let handler = ConnectionHandler(connection: self, tls: tls)
                try transport.pipeline.syncOperations.addHandler(handler)
                // The handshake begins when its handler is added.
                if let tls {
                    try transport.pipeline.syncOperations.addHandler(tls.makeHandler(), position: .before(handler))
                }
            } catch {
                let failure = tls.map { _ in TLSFailure.invalidSettings(reason: "\(error)") }
                return transportClosed(reason: "\(error)", failure)
            }
            if !transport.isActive { transportClosed(reason: "closed by the peer") }
        }
    }

    func transportClosed(reason: String, _ failure: TLSFailure? = nil) {
        drive { $0.transportClosed(reason: reason, tls: failure, &$1) }
    }

    // MARK: Actions

    func drive(_ input: (inout ConnectionStateMachine, inout [ConnectionStateMachine.Action]) -> Void) {
        var actions: [ConnectionStateMachine.Action] = []
        input(&machine, &actions)
        for action in actions { perform(action) }
    }

    private func perform(_ action: ConnectionStateMachine.Action) {
        switch action {
        case .sendProtocolHeader:
            batch.append { $0.writeBytes(FrameEncoder.protocolHeader) }
            requestFlush()
        case .send(let method):
            if let error = send(method, channel: 0) { abort(.unencodable(error)) }
        case .sendHeartbeat:
            // While a write is stuck, heartbeats would only accumulate.
            guard !batch.isWriting else { break }
            batch.append { encoder.encodeHeartbeat(into: &$0) }
            requestFlush()
        case .negotiated(let negotiated):
            decoder.maximumFrameSize = negotiated.frameMax
            encoder.maximumFrameSize = negotiated.frameMax
            ids = ChannelIDs(limit: negotiated.channelMax == 0 ? .max : negotiated.channelMax)
            scheduleTick()
        case .opened:
            openDeadline?.cancel()
            identify()
            opening.set(.success(()))
        case .blocked(let reason):
            setBlocked(reason)
            logger.log(
                level: isAlone ? .warning : .debug,
                "the broker blocks publishing",
                metadata: ["reason": "\(reason)"]
            )
        case .unblocked:
            setBlocked(nil)
            logger.log(level: isAlone ? .info : .debug, "the broker accepts messages again")
            drainChannels()
        case .secretUpdated: secretUpdated()
        case .ended(let error, let isClean): ended(error, isClean: isClean)
        }
    }

    private func scheduleTick() {
        guard let due = machine.nextTick(after: .now) else { return }
        tick = eventLoop.scheduleTask(in: TimeAmount(ContinuousClock.now.duration(to: due))) {
            self.assumeIsolated { connection in
                connection.drive { $0.tick(now: .now, &$1) }
                connection.scheduleTick()
            }
        }
    }

    private func ended(_ error: AMQPError, isClean: Bool) {
        ending.store(true, ordering: .releasing)
        over.store(true, ordering: .releasing)
        openDeadline?.cancel()
        closeDeadline?.cancel()
        tick?.cancel()
        closeTransport()
        let (channels, cause) = (channels, machine.closeCause)
        self.channels = []
        configuration.metrics?.channels(-channels.count { $0 != nil })
        for channel in channels {
            channel?.assumeIsolated { $0.connectionEnded(error, isClean: isClean, cause: cause) }
        }
        failSecretUpdates(error)
        setBlocked(nil)
        logger.debug("connection ended", metadata: ["endpoint": "\(endpoint.redacted)", "reason": "\(error)"])
        opening.set(.failure(error))
        end.set(error)
        stateBroadcast.finish(.closed)
    }

    /// Closes the transport after the pending writes, within a second.
    private func closeTransport() {
        guard let transport else { return }
        self.transport = nil
        guard transport.isActive, let bytes = batch.begin() else { return transport.close(promise: nil) }
        let giveUp = eventLoop.scheduleTask(in: .seconds(1)) { transport.close(promise: nil) }
        let written = eventLoop.makePromise(of: Void.self)
        written.futureResult.whenComplete { _ in
            giveUp.cancel()
            transport.close(promise: nil)
        }
        transport.pipeline.syncOperations.writeAndFlush(NIOAny(bytes), promise: written)
    }
}

extension AMQPConnection {
    /// Replaces the secret that the connection was opened with, before it expires (`connection.update-secret`): with OAuth 2, the token.
    /// Not needed with a password.
    ///
    /// The secret is in no error or description.
    ///
    /// - Parameters:
    ///   - secret: The new secret.
    ///   - reason: The reason for the broker's log; at most 255 bytes.
    ///   - timeout: The time limit; `nil` for ``ConnectionConfiguration/operationTimeout``.
    /// - Throws: The error that ended the connection (a broker that refuses the secret closes it), ``AMQPError/unencodable(_:)``,
    ///   ``AMQPError/overloaded(_:)``, ``AMQPError/timedOut(operation:after:)`` or ``AMQPError/cancelled(operation:)``.
    public func updateSecret(
        _ secret: String,
        reason: String = "the secret is renewed",
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        if let error = closedError { throw .notSent(error) }
        guard machine.isOpen else { throw .notSent(.connectionClosed) }
        guard !secretUpdates.isFull else { throw .notSent(.overloaded("updates of the secret")) }
        let request = Method.connectionUpdateSecret(newSecret: Array(secret.utf8), reason: reason)
        let id = secretUpdates.nextID()
        let timeout = (timeout ?? configuration.operationTimeout).bounded
        let deadline = eventLoop.scheduleTask(in: TimeAmount(timeout)) {
            self.assumeIsolated { $0.abandonSecretUpdate(id, .timedOut(operation: request.name, after: timeout)) }
        }
        defer { deadline.cancel() }
        if let error = send(request, channel: 0) { throw .notSent(.unencodable(error)) }
        let outcome = SecretUpdates.Outcome()
        secretUpdates.append(id, outcome)
        if let result = await outcome.wait() { return try result.get() }
        // Its answer is absorbed.
        _ = secretUpdates.abandon(id)
        throw .cancelled(operation: request.name)
    }

    private func abandonSecretUpdate(_ id: UInt64, _ error: AMQPError) {
        secretUpdates.abandon(id)?.set(.failure(error))
    }

    private func secretUpdated() {
        secretUpdates.answered()?.set(.success(()))
    }

    private func failSecretUpdates(_ error: AMQPError) {
        for outcome in secretUpdates.removeAll() { outcome.set(.failure(error)) }
    }
}
