public import NIOCore
import NIOPosix
public import Supervision

/// A TCP proxy on 127.0.0.1 that injects network faults between a client and a broker, for tests and chaos.
///
///     let proxy = try await FaultProxy.start(to: broker)
///     let pool = AMQPPool(endpoints: [try Endpoint(url: proxy.url)])
///     ...
///     await proxy.set(.stalled)                             // nothing gets through, both ways
///     await proxy.set(.halfOpen, .toClient, on: .connection(id))
///     await proxy.heal()
///     await proxy.cut()                                     // RST
///     try await proxy.setNewConnections(.refused)           // "connection refused", until .accepted again
///
/// Between faults it forwards everything as it arrives: bytes, FIN, RST. It buffers at most a megabyte per direction. Faults take effect
/// between two of its reads, not in the middle of one.
///
/// ## Under a supervisor
///
/// It is a `Worker` whose `run()` lasts until ``shutdown()``:
///
///     Child("proxy", onKill: { await $0.shutdown() }) { _ in try await FaultProxy.start(to: broker) }
///
/// When it ends, or is released, nothing is left: its port is closed, and its connections are reset.
public actor FaultProxy: Worker {
    /// Identifies a connection through the proxy; never reused by one proxy.
    public struct ConnectionID: Sendable, Hashable, CustomStringConvertible {
        let number: UInt64

        /// Its number, counted from 1.
        public var description: String { "\(number)" }
    }

    /// A snapshot of a connection through the proxy.
    public struct Connection: Sendable, Hashable {
        /// The identity of the connection.
        public let id: ConnectionID
        /// The client's TCP port.
        public let clientPort: Int
        /// The client's TCP port as the broker sees it: ``ConnectionInfo/peerPort``. 0 until the broker is connected.
        public let brokerPort: Int
        /// The number of bytes forwarded to the broker.
        public let bytesToBroker: Int
        /// The number of bytes forwarded to the client.
        public let bytesToClient: Int
    }

    /// The direction of the bytes.
    public enum Direction: Sendable, Hashable, CaseIterable {
        case toBroker, toClient, both
    }

    /// A selection of connections.
    public enum Selection: Sendable, Hashable {
        /// All open and future connections.
        case all
        /// All open connections.
        case open
        /// This one, if it is open.
        case connection(ConnectionID)
    }

    /// How a connection ends.
    public enum Cut: Sendable, Hashable, CaseIterable {
        /// RST, immediately: data in transit is lost.
        case reset
        /// FIN: data written before arrives.
        case finish
    }

    /// What happens to new connections.
    public enum NewConnections: Sendable, Hashable, CaseIterable {
        /// They are connected to the broker.
        case accepted
        /// They are refused: "connection refused".
        case refused
        /// They are accepted, and reset immediately.
        case reset
        /// They are accepted, and get no data.
        case ignored
    }

    /// The TCP port of 127.0.0.1 that it listens on.
    public nonisolated let port: Int

    private let target: Int
    private let eventLoop: any EventLoop
    private nonisolated let executor: any SerialExecutor
    /// Succeeds at the end, to release all sockets.
    private nonisolated let life: EventLoopPromise<Void>
    private var listener: (any Channel)?
    private let links = ProxyLinks()
    private var lastID: UInt64 = 0
    private var newConnections = NewConnections.accepted
    /// The last change of the listener: the next one waits for it, since the port can only be bound once.
    private var change: Task<Result<Void, LocalBrokerError>, Never>?
    private var toBroker = NetworkConditions.healthy
    private var toClient = NetworkConditions.healthy
    private var isShutDown = false

    /// The proxy's event loop.
    public nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    /// Starts a proxy in front of a broker.
    ///
    /// - Parameters:
    ///   - broker: The broker to connect to. It may be stopped and started again.
    ///   - port: The port of 127.0.0.1 to listen on; `nil` for a free one.
    ///   - eventLoopGroup: The event loops; must outlive the proxy. `nil` for the process-wide singleton group.
    /// - Throws: `invalidOption`, `portInUse`, `cannotPrepare`.
    public static func start(
        to broker: LocalBroker,
        port: Int? = nil,
        eventLoopGroup: (any EventLoopGroup)? = nil
    ) async throws(LocalBrokerError) -> FaultProxy {
        try await start(toPort: broker.port, port: port, eventLoopGroup: eventLoopGroup)
    }

    /// Starts a proxy in front of a server on a port of 127.0.0.1.
    ///
    /// - Throws: `invalidOption`, `portInUse`, `cannotPrepare`.
    public static func start(
        toPort target: Int,
        port: Int? = nil,
        eventLoopGroup: (any EventLoopGroup)? = nil
    ) async throws(LocalBrokerError) -> FaultProxy {
        try LoopbackPort.check(target, option: "toPort")
        try LoopbackPort.check(port, option: "port")
        if eventLoopGroup == nil { try prepareEventLoops() }
        let group = eventLoopGroup ?? MultiThreadedEventLoopGroup.singleton
        var attempt = 1
        while true {
            let chosen = if let port { port } else { try LoopbackPort.free() }
            let proxy = FaultProxy(port: chosen, target: target, eventLoop: group.next())
            await proxy.resetLinksAtEnd()
            do {
                try await proxy.listen()
                return proxy
            } catch .portInUse(_) where port == nil && attempt < 5 {
                attempt += 1
            }
        }
    }

    private init(port: Int, target: Int, eventLoop: any EventLoop) {
        self.port = port
        self.target = target
        self.eventLoop = eventLoop
        executor = eventLoop.executor
        life = eventLoop.makePromise(of: Void.self)
    }

    deinit { life.succeed() }

    /// `amqp://guest:guest@127.0.0.1:PORT`, the virtual host "/".
    public nonisolated var url: String { "amqp://guest:guest@127.0.0.1:\(port)" }

    /// The URL of a virtual host, through the proxy.
    public nonisolated func url(virtualHost: String) -> String { "\(url)/\(percentEncoded(virtualHost))" }

    // MARK: Inspection

    /// The open connections, in order of arrival.
    public var connections: [Connection] {
        links.open.values.sorted { $0.id.number < $1.id.number }.map { link in
            Connection(
                id: link.id,
                clientPort: link.clientPort,
                brokerPort: link.brokerPort,
                bytesToBroker: link.bytesToBroker,
                bytesToClient: link.bytesToClient
            )
        }
    }

    /// The number of connections so far, except refused ones. A client is connected a moment before it is counted, and conditions set from
    /// then on apply to it.
    public var accepted: Int { Int(lastID) }

    // MARK: Faults

    /// Replaces the current conditions.
    ///
    /// Lost bytes are not restored: a half-open connection that has lost bytes is reset when it is no longer half-open.
    public func set(_ conditions: NetworkConditions, _ direction: Direction = .both, on selection: Selection = .all) {
        if case .all = selection {
            if direction != .toClient { toBroker = conditions }
            if direction != .toBroker { toClient = conditions }
        }
        for link in selected(selection) { link.change(direction, to: conditions) }
    }

    /// Forwards everything again: ``NetworkConditions/healthy``.
    public func heal(_ direction: Direction = .both, on selection: Selection = .all) {
        set(.healthy, direction, on: selection)
    }

    /// Ends connections. Later connections are not affected.
    public func cut(_ how: Cut = .reset, on selection: Selection = .all) {
        for link in selected(selection) {
            switch how {
            case .reset: link.reset()
            case .finish: link.finish(within: .seconds(5))
            }
        }
    }

    /// Sets what happens to new connections. Open connections are not affected.
    ///
    /// - Throws: `portInUse` when another process took the port while connections were refused, `shutDown`.
    public func setNewConnections(_ what: NewConnections) async throws(LocalBrokerError) {
        guard !isShutDown else { throw .shutDown }
        newConnections = what
        let before = change
        let change = Task { () -> Result<Void, LocalBrokerError> in
            _ = await before?.value
            do throws(LocalBrokerError) {
                try await adjustListener()
                return .success(())
            } catch {
                return .failure(error)
            }
        }
        self.change = change
        try await change.value.get()
    }

    /// Listens or not, as ``newConnections`` says by now.
    private func adjustListener() async throws(LocalBrokerError) {
        if newConnections != .refused {
            if listener == nil, !isShutDown { try await listen() }
        } else if let listener {
            self.listener = nil
            // An error means that it is already closed.
            _ = try? await listener.close().get()
        }
    }

    private func selected(_ selection: Selection) -> [ProxyLink] {
        switch selection {
        case .all, .open: Array(links.open.values)
        case .connection(let id): links.open[id].map { [$0] } ?? []
        }
    }

    // MARK: Life

    /// Closes the port, and resets all connections. May be called more than once.
    public func shutdown() {
        isShutDown = true
        life.succeed()
    }

    /// Runs until ``shutdown()``, or the cancellation of the task, which shuts it down too.
    public func run() async throws {
        await withTaskCancellationHandler {
            // It never fails.
            _ = try? await life.futureResult.get()
        } onCancel: {
            life.succeed()
        }
        shutdown()
        try Task.checkCancellation()
    }

    /// Shuts down.
    public func terminate(reason: ExitReason) async { shutdown() }

    private func resetLinksAtEnd() {
        life.futureResult.assumeIsolated().whenComplete { [links] _ in
            for link in Array(links.open.values) { link.reset() }
        }
    }

    private func listen() async throws(LocalBrokerError) {
        guard let number = UInt16(exactly: port), let socket = try LoopbackPort.bound(to: number, reusing: true) else {
            throw .portInUse(port)
        }
        let bootstrap = ServerBootstrap(group: eventLoop, childGroup: eventLoop)
            .serverChannelOption(.backlog, value: 1024)
            .childChannelOption(.autoRead, value: false)
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
            .childChannelInitializer { [weak self] client in
                guard let self else { return client.close() }
                return client.eventLoop.makeCompletedFuture { try self.assumeIsolated { try $0.accept(client) } }
            }
        let listener: any Channel
        do {
            listener = try await bootstrap.withBoundSocket(socket).get()
        } catch {
            throw .portInUse(port)
        }
        life.futureResult.whenComplete { _ in listener.close(promise: nil) }
        if newConnections == .refused || isShutDown { return listener.close(promise: nil) }
        self.listener = listener
    }

    private func accept(_ client: any Channel) throws {
        lastID += 1
        let link = ProxyLink(
            ConnectionID(number: lastID),
            client: client,
            toBroker: toBroker,
            toClient: toClient,
            onEnd: { [links] id in links.open[id] = nil }
        )
        try client.pipeline.syncOperations.addHandler(ProxyHandler(link, .client))
        links.open[link.id] = link
        switch newConnections {
        case .accepted: connect(link)
        // It cannot be closed before it is active.
        case .reset, .refused: eventLoop.assumeIsolated().execute { link.reset() }
        case .ignored: break
        }
    }

    private func connect(_ link: ProxyLink) {
        let connected = ClientBootstrap(group: eventLoop)
            .channelOption(.autoRead, value: false)
            .channelOption(.allowRemoteHalfClosure, value: true)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .connect(host: "127.0.0.1", port: target)
        connected.assumeIsolated().whenComplete { result in
            link.connected(
                result.flatMap { broker in
                    // Fails on a channel that has ended in the meantime.
                    Result {
                        try broker.pipeline.syncOperations.addHandler(ProxyHandler(link, .broker))
                        return broker
                    }
                }
            )
        }
    }
}

/// The connections of a proxy, confined to its event loop. A separate object, because they are reset when the proxy is released.
private final class ProxyLinks {
    var open: [FaultProxy.ConnectionID: ProxyLink] = [:]
}
