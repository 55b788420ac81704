public import NIOCore
import NIOPosix
public import Supervision

/// A TCP proxy on 127.0.0.1 that breaks the network between a client and a broker, for tests and chaos.
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
/// Between faults it forwards everything as it comes: bytes, FIN, RST. It holds at most a megabyte a direction. Faults
/// take effect between two of its reads, not in the middle of one.
///
/// ## Under a supervisor
///
/// It is a `Worker` whose `run()` lasts until ``shutdown()``:
///
///     Child("proxy", onKill: { await $0.shutdown() }) { _ in try await FaultProxy.start(to: broker) }
///
/// Nothing of it remains when it ends, or when the last reference to it is gone: its port is closed, and its connections are
/// reset.
public actor FaultProxy: Worker {
    /// Names a connection through the proxy; never used twice by one proxy.
    public struct ConnectionID: Sendable, Hashable, CustomStringConvertible {
        let number: UInt64

        /// Its number, counted from 1.
        public var description: String { "\(number)" }
    }

    /// A connection through the proxy, at this moment.
    public struct Connection: Sendable, Hashable {
        /// What to name it by.
        public let id: ConnectionID
        /// The TCP port the client has.
        public let clientPort: Int
        /// The TCP port the broker takes for the client's: ``ConnectionInfo/peerPort``. 0 as long as the broker is not
        /// connected to.
        public let brokerPort: Int
        /// How many bytes were forwarded to the broker.
        public let bytesToBroker: Int
        /// How many bytes were forwarded to the client.
        public let bytesToClient: Int
    }

    /// Which way.
    public enum Direction: Sendable, Hashable, CaseIterable {
        case toBroker, toClient, both
    }

    /// Which connections.
    public enum Selection: Sendable, Hashable {
        /// Those that are open, and all that come.
        case all
        /// Those that are open.
        case open
        /// This one, if it is open.
        case connection(ConnectionID)
    }

    /// How a connection ends.
    public enum Cut: Sendable, Hashable, CaseIterable {
        /// RST, at once: what was on its way is lost.
        case reset
        /// FIN: what was written before arrives.
        case finish
    }

    /// What becomes of a client that connects.
    public enum NewConnections: Sendable, Hashable, CaseIterable {
        /// It is connected to the broker.
        case accepted
        /// Nobody listens: "connection refused".
        case refused
        /// It is accepted, and reset at once.
        case reset
        /// It is accepted, and hears nothing.
        case ignored
    }

    /// The TCP port of 127.0.0.1 it listens on.
    public nonisolated let port: Int

    private let target: Int
    private let eventLoop: any EventLoop
    private nonisolated let executor: any SerialExecutor
    /// Succeeds at the end, to let all sockets go.
    private nonisolated let life: EventLoopPromise<Void>
    private var listener: (any Channel)?
    private let links = ProxyLinks()
    private var lastID: UInt64 = 0
    private var newConnections = NewConnections.accepted
    private var toBroker = NetworkConditions.healthy
    private var toClient = NetworkConditions.healthy
    private var isShutDown = false

    /// An event loop.
    public nonisolated var unownedExecutor: UnownedSerialExecutor { executor.asUnownedSerialExecutor() }

    /// Starts a proxy in front of a broker.
    ///
    /// - Parameters:
    ///   - broker: where it connects to. It may be stopped and started again.
    ///   - port: the port of 127.0.0.1 to listen on; a free one if nil.
    ///   - eventLoopGroup: where it runs; must outlive it. Nil is the process-wide singleton group.
    /// - Throws: `invalidOption`, `portInUse`, `cannotPrepare`.
    public static func start(
        to broker: LocalBroker,
        port: Int? = nil,
        eventLoopGroup: (any EventLoopGroup)? = nil
    ) async throws(LocalBrokerError) -> FaultProxy {
        try await start(toPort: broker.port, port: port, eventLoopGroup: eventLoopGroup)
    }

    /// Starts a proxy in front of whatever listens on a port of 127.0.0.1.
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

    // MARK: Looking at it

    /// The connections that are open, in the order in which they came.
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

    /// How many connections came so far, refused ones not counted. A client is connected a moment before it is counted, and
    /// what is set then holds for it.
    public var accepted: Int { Int(lastID) }

    // MARK: Faults

    /// Puts these conditions in place of those before.
    ///
    /// Bytes that were lost do not come back: a connection that has lost some while it was half-open is reset when it is not
    /// half-open any more.
    public func set(_ conditions: NetworkConditions, _ direction: Direction = .both, on selection: Selection = .all) {
        if case .all = selection {
            if direction != .toClient { toBroker = conditions }
            if direction != .toBroker { toClient = conditions }
        }
        for link in selected(selection) { link.change(direction, to: conditions) }
    }

    /// Everything goes through again: ``NetworkConditions/healthy``.
    public func heal(_ direction: Direction = .both, on selection: Selection = .all) {
        set(.healthy, direction, on: selection)
    }

    /// Ends connections. Those that come later are not affected.
    public func cut(_ how: Cut = .reset, on selection: Selection = .all) {
        for link in selected(selection) {
            switch how {
            case .reset: link.reset()
            case .finish: link.finish(within: .seconds(5))
            }
        }
    }

    /// What becomes of clients that connect from now on. Open connections are not affected.
    ///
    /// - Throws: `portInUse` when another process took the port while connections were refused, `shutDown`.
    public func setNewConnections(_ what: NewConnections) async throws(LocalBrokerError) {
        guard !isShutDown else { throw .shutDown }
        newConnections = what
        if what != .refused {
            if listener == nil { try await listen() }
        } else if let listener {
            self.listener = nil
            // Already closed is closed as well.
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

    /// Lasts until ``shutdown()``, or the cancellation of the task, which shuts it down too.
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
                    // Fails on a channel that has ended meanwhile.
                    Result {
                        try broker.pipeline.syncOperations.addHandler(ProxyHandler(link, .broker))
                        return broker
                    }
                }
            )
        }
    }
}

/// The connections of a proxy. On its event loop; apart from it, since they are to be reset when it is no more.
private final class ProxyLinks {
    var open: [FaultProxy.ConnectionID: ProxyLink] = [:]
}
