import NIOCore
import NIOPosix

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A proxied connection: a socket to the client, one to the broker, and a flow in each direction. Confined to one event loop.
final class ProxyLink {
    /// One of the two sockets.
    enum Side { case client, broker }

    let id: FaultProxy.ConnectionID
    private let client: any Channel
    private var broker: (any Channel)?
    private var toBroker: ProxyFlow
    private var toClient: ProxyFlow
    private var closedSides: Set<Side> = []
    private var isOver = false
    /// Whether it ended with RST.
    private var isReset = false
    /// Closing by FIN: later data is discarded.
    private var isFinishing = false
    private(set) var bytesToBroker = 0
    private(set) var bytesToClient = 0
    private let onEnd: (FaultProxy.ConnectionID) -> Void

    init(
        _ id: FaultProxy.ConnectionID,
        client: any Channel,
        toBroker: NetworkConditions,
        toClient: NetworkConditions,
        onEnd: @escaping (FaultProxy.ConnectionID) -> Void
    ) {
        self.id = id
        self.client = client
        self.toBroker = ProxyFlow(toBroker)
        self.toClient = ProxyFlow(toClient)
        self.onEnd = onEnd
    }

    var clientPort: Int { client.remoteAddress?.port ?? 0 }
    var brokerPort: Int { broker?.localAddress?.port ?? 0 }

    /// The connection to the broker was established or failed.
    func connected(_ result: Result<any Channel, any Error>) {
        guard case .success(let broker) = result else { return reset() }
        if isReset { return Self.reset(broker) }
        guard !isOver, !isFinishing else { return broker.close(promise: nil) }
        self.broker = broker
        perform(toBroker.start(now: .now()), from: .client)
        perform(toClient.start(now: .now()), from: .broker)
    }

    // MARK: Faults

    func change(_ direction: FaultProxy.Direction, to conditions: NetworkConditions) {
        if direction != .toClient { perform(toBroker.change(to: conditions, now: .now()), from: .client) }
        if direction != .toBroker { perform(toClient.change(to: conditions, now: .now()), from: .broker) }
    }

    /// Ends both connections with RST, including a pending one to the broker.
    func reset() {
        guard !isOver else { return }
        isReset = true
        over()
        Self.reset(client)
        if let broker { Self.reset(broker) }
    }

    private static func reset(_ channel: any Channel) {
        // With a linger time of zero the kernel discards unsent data, and sends RST instead of FIN.
        let options = channel as? any SocketOptionProvider
        _ = options?.setSoLinger(linger(l_onoff: 1, l_linger: 0))
        channel.close(promise: nil)
    }

    /// Ends both connections with FIN, after data written before. Nothing is forwarded any more.
    func finish(within timeout: TimeAmount) {
        guard !isOver, !isFinishing else { return }
        isFinishing = true
        client.close(mode: .output, promise: nil)
        client.read()
        broker?.close(mode: .output, promise: nil)
        broker?.read()
        // A socket with unread bytes would be closed with RST, so they are read until both sides have closed.
        client.eventLoop.assumeIsolated().scheduleTask(in: timeout) { self.close() }
    }

    /// Closes both sockets, regardless of data in transit.
    func close() {
        guard !isOver else { return }
        over()
        client.close(promise: nil)
        broker?.close(promise: nil)
    }

    /// Called first: closing one socket causes an event that would be attributed to its peer.
    private func over() {
        isOver = true
        onEnd(id)
    }

    // MARK: Events

    func received(_ bytes: ByteBuffer, from side: Side) {
        guard !isOver else { return }
        guard !isFinishing else {
            channel(side)?.read()
            return
        }
        switch side {
        case .client: perform(toBroker.received(bytes, now: .now()), from: side)
        case .broker: perform(toClient.received(bytes, now: .now()), from: side)
        }
    }

    /// The peer of this socket has closed its sending side, or the whole connection.
    func inputClosed(_ side: Side) {
        guard !isOver else { return }
        // The client ended before the broker was connected.
        guard broker != nil else { return close() }
        switch side {
        case .client: perform(toBroker.ended(now: .now()), from: side)
        case .broker: perform(toClient.ended(now: .now()), from: side)
        }
        // Both sides have ended, and data in transit will not arrive.
        let isBroken = [toBroker, toClient].contains { $0.conditions.isHalfOpen || $0.conditions.isStalled }
        if toBroker.isEnded, toClient.isEnded, isFinishing || isBroken { close() }
    }

    /// The socket has been closed. `isReset`: other than by an orderly end.
    func closed(_ side: Side, isReset: Bool) {
        guard !isOver else { return }
        closedSides.insert(side)
        let conditions = (side == .client ? toBroker : toClient).conditions
        if isReset, !conditions.isHalfOpen, !conditions.isStalled { return reset() }
        inputClosed(side)
        // Otherwise data sent before still has to be delivered.
        if closedSides.count == 2 || (side == .client ? toBroker : toClient).isFinished { close() }
    }

    private func channel(_ side: Side) -> (any Channel)? { side == .client ? client : broker }

    private func perform(_ actions: [ProxyFlow.Action], from side: Side) {
        guard !isOver, let broker else { return }
        let (source, target) = side == .client ? (client, broker) : (broker, client)
        for action in actions {
            switch action {
            case .read:
                source.read()
            case .write(let bytes):
                if side == .client {
                    bytesToBroker += bytes.readableBytes
                } else {
                    bytesToClient += bytes.readableBytes
                }
                target.writeAndFlush(bytes).assumeIsolated().whenSuccess { self.next(side) { $0.wrote(now: .now()) } }
            case .finish:
                if closedSides.contains(side) { return close() }
                target.close(mode: .output, promise: nil)
            case .wake(let time):
                source.eventLoop.assumeIsolated().scheduleTask(deadline: time) {
                    self.next(side) { $0.woke(now: .now()) }
                }
            case .breakUp:
                return reset()
            }
        }
    }

    private func next(_ side: Side, _ input: (inout ProxyFlow) -> [ProxyFlow.Action]) {
        guard !isOver, !isFinishing else { return }
        perform(side == .client ? input(&toBroker) : input(&toClient), from: side)
    }
}

/// Passes the events of one of its sockets to a link.
final class ProxyHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let link: ProxyLink
    private let side: ProxyLink.Side
    private var isReset = false

    init(_ link: ProxyLink, _ side: ProxyLink.Side) {
        self.link = link
        self.side = side
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        link.received(unwrapInboundIn(data), from: side)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .some(.inputClosed) = event as? ChannelEvent { link.inputClosed(side) }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        isReset = true
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        link.closed(side, isReset: isReset)
    }
}
