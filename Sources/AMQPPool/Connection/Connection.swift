public import Logging
import NIOCore
import NIOPosix
import Synchronization

/// One AMQP connection over one TCP connection, from the handshake to the close.
///
/// Its executor is its NIO event loop, as that of its channels is: an `await` between them does not suspend. It stays open
/// until ``close(timeout:)``, the broker or the network ends it; it does not come back. When it ends, every operation and
/// every message of its channels that is pending gets its outcome, exactly once.
public actor Connection {
    /// Where the connection was opened to.
    public nonisolated let endpoint: Endpoint
    nonisolated let configuration: ConnectionConfiguration
    nonisolated let eventLoop: any EventLoop
    nonisolated let logger: Logger
    nonisolated let end = OneShot<AMQPError>()
    private nonisolated let executor: any SerialExecutor
    private nonisolated let ending = Atomic(false)
    private nonisolated let blocked = Mutex<String?>(nil)
    private nonisolated let blockedFlag = Atomic(false)
    private nonisolated let unblockedHandlers = Mutex<[@Sendable () -> Void]>([])

    private var machine: ConnectionStateMachine
    private var transport: (any NIOCore.Channel)?
    private let decoder: FrameDecoder
    private let encoder: FrameEncoder
    private var ids: ChannelIDs
    /// By channel number. A channel stays until the broker has let go of its number.
    private var channels: [Channel?] = []
    private var opening: CheckedContinuation<Result<Void, AMQPError>, Never>?
    private var openDeadline: Scheduled<Void>?
    private var tick: Scheduled<Void>?

    /// What is written at the end of this tick.
    private var writeBuffer = ByteBuffer()
    /// The memory of the write before, used again for the next.
    private var spareBuffer = ByteBuffer()
    private var isFlushScheduled = false
    private var isReading = false
    /// A write that the socket has not taken completely. Nothing is written behind it: so what is still in an outbox when
    /// the connection ends was not sent, and only the rest is in doubt.
    private var isWriting = false

    /// How much is encoded before it is written.
    private static let writeBatchSize = 1 << 20

    /// The event loop.
    public nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    private init(_ endpoint: Endpoint, configuration: ConnectionConfiguration, logger: Logger) {
        self.endpoint = endpoint
        self.configuration = configuration
        self.logger = logger
        eventLoop = configuration.eventLoopGroup.next()
        executor = eventLoop.executor
        let heartbeat = (endpoint.heartbeat ?? configuration.heartbeat).components.seconds
        let channelMax = endpoint.channelMax ?? configuration.maximumChannels
        machine = ConnectionStateMachine(
            login: .init(
                endpoint: endpoint.redacted,
                virtualHost: endpoint.virtualHost,
                username: endpoint.username,
                password: endpoint.password,
                connectionName: configuration.name,
                channelMax: channelMax,
                frameMax: configuration.maximumFrameSize,
                heartbeat: UInt16(clamping: heartbeat)
            )
        )
        decoder = FrameDecoder(maximumFrameSize: configuration.maximumFrameSize)
        encoder = FrameEncoder(maximumFrameSize: configuration.maximumFrameSize)
        ids = ChannelIDs(limit: channelMax)
    }

    // MARK: Open and close

    /// Connects, authenticates and opens the virtual host.
    ///
    /// The name is resolved anew. Takes at most ``ConnectionConfiguration/connectTimeout``, and ends early when the task
    /// is cancelled.
    ///
    /// - Throws: ``AMQPError/connectFailed(endpoint:reason:)``, ``AMQPError/authenticationFailed(endpoint:text:)``,
    ///   ``AMQPError/virtualHostRefused(endpoint:virtualHost:code:text:)``,
    ///   ``AMQPError/handshakeFailed(endpoint:stage:reason:)``, ``AMQPError/invalidEndpoint(_:)``, or
    ///   ``AMQPError/cancelled(operation:)``.
    public static func open(
        _ endpoint: Endpoint,
        configuration: ConnectionConfiguration = ConnectionConfiguration(),
        logger: Logger = Logger(label: "amqp-pool")
    ) async throws(AMQPError) -> Connection {
        // The place for NIOSSL: a TLS handler in front of ConnectionHandler, added where it is (`connect`).
        do throws(EndpointError) {
            try endpoint.checkConnectable()
        } catch {
            throw .invalidEndpoint(error)
        }
        let connection = Connection(endpoint, configuration: configuration, logger: logger)
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
            onEventLoop { $0.abort(.cancelled(operation: "connecting to \($0.endpoint.redacted)")) }
        }
        try result.get()
    }

    /// Closes by handshake: what was submitted before is written first, messages that are unconfirmed when the broker
    /// acknowledges count as delivered, and everything else that is pending fails.
    ///
    /// Returns when the connection is over: after `timeout` at the latest, also on a socket that is stuck. A cancelled task
    /// returns at once, while the handshake goes on.
    ///
    /// - Parameter timeout: nil is ``ConnectionConfiguration/closeTimeout``.
    public func close(timeout: Duration? = nil) async {
        beginClose(timeout: timeout ?? configuration.closeTimeout)
        _ = await end.wait()
    }

    private func beginClose(timeout: Duration) {
        ending.store(true, ordering: .releasing)
        guard machine.isOpen else { return drive { $0.close(&$1) } }
        for channel in channels { channel?.assumeIsolated { $0.connectionClosing() } }
        drive { $0.close(&$1) }
        openDeadline = eventLoop.scheduleTask(in: TimeAmount(timeout)) {
            self.assumeIsolated { $0.abort(.timedOut(operation: "connection.close", after: timeout)) }
        }
    }

    /// Waits until the connection is over, and tells why. Returns nil only when the task was cancelled before.
    public nonisolated func waitUntilClosed() async -> AMQPError? {
        await end.wait()
    }

    /// Why the connection is over, or nil while it is open.
    public nonisolated var closedError: AMQPError? { end.value }

    /// Whether the connection is over or on its way there: what happens to its channels is a consequence.
    nonisolated var isEnding: Bool { ending.load(ordering: .acquiring) }

    /// Runs when the connection is over: on the event loop, or at once if it is over already. Must not block.
    package nonisolated func onClosed(_ handler: @escaping @Sendable (AMQPError) -> Void) {
        end.whenFired(handler)
    }

    /// Why the broker accepts no messages at present (`connection.blocked`), or nil.
    public nonisolated var blockedReason: String? { blocked.withLock { $0 } }

    nonisolated var isBlocked: Bool { blockedFlag.load(ordering: .acquiring) }

    /// Runs on the event loop each time the broker accepts messages again. Must not block.
    nonisolated func onUnblocked(_ handler: @escaping @Sendable () -> Void) {
        unblockedHandlers.withLock { $0.append(handler) }
    }

    private func setBlocked(_ reason: String?) {
        blocked.withLock { $0 = reason }
        let wasBlocked = blockedFlag.exchange(reason != nil, ordering: .acquiringAndReleasing)
        guard wasBlocked, reason == nil else { return }
        for handler in unblockedHandlers.withLock({ $0 }) { handler() }
    }

    // MARK: Channels

    /// Opens a channel.
    ///
    /// - Throws: what ended the connection, ``AMQPError/tooManyChannels(limit:)``, ``AMQPError/timedOut(operation:after:)``
    ///   or ``AMQPError/cancelled(operation:)``; then the channel is closed again as soon as the broker answers.
    public func openChannel() async throws(AMQPError) -> Channel {
        if let error = end.value { throw .notSent(error) }
        guard machine.isOpen else { throw .notSent(.connectionClosed) }
        guard let number = ids.allocate() else { throw .tooManyChannels(limit: ids.limit) }
        let channel = Channel(number: number, connection: self)
        while channels.count <= Int(number) { channels.append(nil) }
        channels[Int(number)] = channel
        try await channel.open()
        return channel
    }

    /// Runs the body with a channel of its own, which is closed afterwards: for what may fail and thereby close the channel,
    /// such as a passive declare of what may not exist (404).
    package func withTemporaryChannel<Value: Sendable>(
        _ body: @Sendable (Channel) async throws(AMQPError) -> Value
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

    /// The broker has let go of a channel's number.
    func released(_ number: UInt16) {
        guard Int(number) < channels.count else { return }
        channels[Int(number)] = nil
        ids.release(number)
    }

    // MARK: Writing

    /// Whether messages may be encoded now. When not, ``Channel/drain(force:)`` is called as soon as they may.
    var acceptsPublishes: Bool {
        machine.isOpen && !isWriting && machine.blockedReason == nil
            && writeBuffer.readableBytes < Self.writeBatchSize
    }

    /// Encodes a method, which is written at the end of this tick; or tells why it cannot be encoded.
    func send(_ method: Method, channel: UInt16) -> EncodingError? {
        do {
            try encoder.encode(method, channel: channel, into: &writeBuffer)
            requestFlush()
            return nil
        } catch {
            return error
        }
    }

    /// Encodes a message, which is written at the end of this tick; or tells why it cannot be encoded.
    func send(_ publish: Publish, channel: UInt16) -> EncodingError? {
        do {
            try encoder.encode(
                .basicPublish(
                    exchange: publish.exchange,
                    routingKey: publish.routingKey,
                    mandatory: publish.mandatory
                ),
                channel: channel,
                properties: publish.properties,
                body: publish.body,
                into: &writeBuffer
            )
            requestFlush()
            return nil
        } catch {
            return error
        }
    }

    /// Why a request cannot be encoded, if so.
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
        guard !isFlushScheduled, !isReading, !isWriting else { return }
        isFlushScheduled = true
        onEventLoop { $0.flush() }
    }

    private func flush() {
        isFlushScheduled = false
        guard !isWriting, writeBuffer.readableBytes > 0, let transport else { return }
        isWriting = true
        swap(&writeBuffer, &spareBuffer)
        if writeBuffer.capacity > 2 * Self.writeBatchSize { writeBuffer = ByteBuffer() } else { writeBuffer.clear() }
        let written = eventLoop.makePromise(of: Void.self)
        written.futureResult.whenComplete { result in self.assumeIsolated { $0.wrote(result) } }
        transport.pipeline.syncOperations.writeAndFlush(NIOAny(spareBuffer), promise: written)
    }

    private func wrote(_ result: Result<Void, any Error>) {
        isWriting = false
        guard case .success = result else { return }
        machine.wrote(at: .now)
        if writeBuffer.readableBytes > 0 { requestFlush() }
        drainChannels()
    }

    private func drainChannels() {
        guard machine.isOpen else { return }
        for channel in channels { channel?.assumeIsolated { $0.drainIfStalled() } }
    }

    // MARK: Reading

    func received(_ bytes: ByteBuffer) {
        guard transport != nil else { return }
        isReading = true
        machine.read(at: .now)
        decoder.append(bytes)
        do {
            while transport != nil, let frame = try decoder.next() { receive(frame) }
        } catch {
            fail(.protocolViolation("\(error)"))
        }
    }

    func readCompleted() {
        isReading = false
        if !isFlushScheduled { flush() }
    }

    private func receive(_ frame: Frame) {
        switch frame {
        case .heartbeat: break
        case .method(channel: 0, let method):
            drive { $0.receive(method, now: .now, &$1) }
        case .method(let number, let method):
            channel(number)?.assumeIsolated { $0.receive(method) }
        case .header(let number, let bodySize, let properties):
            channel(number)?.assumeIsolated { $0.receiveHeader(bodySize: bodySize, properties) }
        case .body(let number, let bytes):
            channel(number)?.assumeIsolated { $0.receiveBody(bytes) }
        }
    }

    private func channel(_ number: UInt16) -> Channel? {
        if machine.carriesChannels, Int(number) < channels.count, let channel = channels[Int(number)] { return channel }
        fail(.protocolViolation("a frame for channel \(number), which is not open"))
        return nil
    }

    /// The peer broke the protocol.
    func fail(_ error: AMQPError) {
        drive { $0.fail(error, &$1) }
    }

    private func abort(_ error: AMQPError) {
        drive { $0.abort(error, &$1) }
    }

    // MARK: The transport

    private func connect() {
        let timeout = endpoint.connectionTimeout ?? configuration.connectTimeout
        openDeadline = eventLoop.scheduleTask(in: TimeAmount(timeout)) {
            self.assumeIsolated { connection in connection.drive { $0.openTimedOut(after: timeout, &$1) } }
        }
        ClientBootstrap(group: eventLoop)
            .connectTimeout(TimeAmount(timeout))
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .connect(host: endpoint.host, port: endpoint.port)
            .whenComplete { result in self.assumeIsolated { $0.connected(result) } }
    }

    private func connected(_ result: Result<any NIOCore.Channel, any Error>) {
        switch result {
        case .failure(let error): drive { $0.transportClosed(reason: describe(connectError: error), &$1) }
        case .success(let transport):
            guard end.value == nil else { return transport.close(promise: nil) }
            self.transport = transport
            do {
                try transport.pipeline.syncOperations.addHandler(ConnectionHandler(connection: self))
            } catch {
                return drive { $0.transportClosed(reason: "\(error)", &$1) }
            }
            drive { $0.connected(&$1) }
            if !transport.isActive { transportClosed(reason: "closed by the peer") }
        }
    }

    func transportClosed(reason: String) {
        drive { $0.transportClosed(reason: reason, &$1) }
    }

    // MARK: Actions

    private func drive(_ input: (inout ConnectionStateMachine, inout [ConnectionStateMachine.Action]) -> Void) {
        var actions: [ConnectionStateMachine.Action] = []
        input(&machine, &actions)
        for action in actions { perform(action) }
    }

    private func perform(_ action: ConnectionStateMachine.Action) {
        switch action {
        case .sendProtocolHeader:
            writeBuffer.writeBytes(FrameEncoder.protocolHeader)
            requestFlush()
        case .send(let method):
            if let error = send(method, channel: 0) { abort(.unencodable(error)) }
        case .sendHeartbeat:
            // Behind a write that does not end, it would only pile up.
            guard !isWriting else { break }
            encoder.encodeHeartbeat(into: &writeBuffer)
            requestFlush()
        case .negotiated(let negotiated):
            decoder.maximumFrameSize = negotiated.frameMax
            encoder.maximumFrameSize = negotiated.frameMax
            ids = ChannelIDs(limit: negotiated.channelMax == 0 ? .max : negotiated.channelMax)
            scheduleTick()
        case .opened:
            openDeadline?.cancel()
            opening?.resume(returning: .success(()))
            opening = nil
        case .blocked(let reason):
            setBlocked(reason)
            logger.warning("the broker blocks publishing", metadata: ["reason": "\(reason)"])
        case .unblocked:
            setBlocked(nil)
            logger.info("the broker accepts messages again")
            drainChannels()
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
        openDeadline?.cancel()
        tick?.cancel()
        setBlocked(nil)
        closeTransport()
        let channels = channels
        self.channels = []
        for channel in channels { channel?.assumeIsolated { $0.connectionEnded(error, isClean: isClean) } }
        logger.debug("connection ended", metadata: ["endpoint": "\(endpoint.redacted)", "reason": "\(error)"])
        opening?.resume(returning: .failure(error))
        opening = nil
        end.fire(error)
    }

    /// Closes the transport after what is still to be said, and within a second.
    private func closeTransport() {
        guard let transport else { return }
        self.transport = nil
        guard !isWriting, writeBuffer.readableBytes > 0, transport.isActive else {
            return transport.close(promise: nil)
        }
        let giveUp = eventLoop.scheduleTask(in: .seconds(1)) { transport.close(promise: nil) }
        let written = eventLoop.makePromise(of: Void.self)
        written.futureResult.whenComplete { _ in
            giveUp.cancel()
            transport.close(promise: nil)
        }
        transport.pipeline.syncOperations.writeAndFlush(NIOAny(writeBuffer), promise: written)
        writeBuffer = ByteBuffer()
    }

    /// Runs on the event loop, after what is running there now.
    private nonisolated func onEventLoop(_ body: @escaping @Sendable (isolated Connection) -> Void) {
        eventLoop.execute { self.assumeIsolated { body($0) } }
    }
}

/// A short reason out of NIO's report, which lists every address it tried.
private func describe(connectError error: any Error) -> String {
    switch error {
    case let error as NIOConnectionError:
        if let failure = error.connectionErrors.first { return describe(connectError: failure.error) }
        if let failure = error.dnsAError ?? error.dnsAAAAError { return "the name does not resolve (\(failure))" }
        return "the name does not resolve"
    case let error as IOError: return error.description
    case ChannelError.connectTimeout: return "nobody answered in time"
    default: return "\(error)"
    }
}
