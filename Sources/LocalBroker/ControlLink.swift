import Foundation
import NIOCore
import NIOPosix

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The connection to ``ControlScript`` in the node: many concurrent requests, each with a deadline.
final class ControlLink: Sendable {
    /// Succeeds when RabbitMQ has booted; fails when the link ends first.
    let ready: EventLoopFuture<NodeVersions>
    private let channel: any Channel

    /// Takes ownership of our end of the socket, even if this throws.
    init(descriptor: CInt) async throws(LocalBrokerError) {
        // NIO needs two descriptors, and ends the process if it cannot create the second itself.
        let output = fcntl(descriptor, F_DUPFD_CLOEXEC, 10)
        guard output >= 0 else {
            let reason = String(cString: strerror(errno))
            _ = close(descriptor)
            throw .cannotPrepare(path: "the control link", reason: reason)
        }
        let ready = MultiThreadedEventLoopGroup.singleton.next().makePromise(of: NodeVersions.self)
        self.ready = ready.futureResult
        do {
            self.channel = try await NIOPipeBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(ControlHandler(ready: ready))
                    }
                }
                .takingOwnershipOfDescriptors(input: descriptor, output: output)
                .get()
        } catch {
            ready.fail(LocalBrokerError.notRunning)
            throw .cannotPrepare(path: "the control link", reason: "\(error)")
        }
    }

    deinit { channel.close(promise: nil) }

    /// Lets the process at the other end proceed, which waits for this.
    func begin() { channel.writeAndFlush(ControlOutput.text("go\n"), promise: nil) }

    /// - Throws: ``LocalBrokerError/notRunning`` when the link is closed, `requestTimedOut`, `requestFailed`, `cancelled`.
    func request<Result: Decodable & Sendable>(
        _ command: String,
        _ arguments: [String: ControlArgument],
        timeout: Duration,
        as type: Result.Type
    ) async throws(LocalBrokerError) -> Result {
        let answer = channel.eventLoop.makePromise(of: ByteBuffer.self)
        channel.writeAndFlush(ControlOutput.request(command, arguments, answer)).whenFailure { _ in
            answer.fail(LocalBrokerError.notRunning)
        }
        let bytes = try await answer.futureResult.value(
            within: timeout,
            orThrow: .requestTimedOut(command: command, after: timeout)
        )
        do {
            let envelope = try JSONDecoder().decode(Envelope<Result>.self, from: Data(bytes.readableBytesView))
            if let result = envelope.result { return result }
            throw LocalBrokerError.requestFailed(command: command, reason: envelope.error ?? "no result")
        } catch let error as LocalBrokerError {
            throw error
        } catch {
            throw .requestFailed(command: command, reason: "its answer cannot be decoded: \(error)")
        }
    }
}

private struct Envelope<Result: Decodable>: Decodable {
    var result: Result?
    var error: String?
}

/// An argument of a request.
enum ControlArgument: Sendable, Encodable {
    case text(String)
    case bool(Bool)
    case number(Int)

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .text(let value): try container.encode(value)
        case .bool(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        }
    }
}

private enum ControlOutput: Sendable {
    case text(String)
    case request(String, [String: ControlArgument], EventLoopPromise<ByteBuffer>)
}

/// Numbers the requests, and matches the answers. Confined to one event loop.
private final class ControlHandler: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ControlOutput
    typealias OutboundOut = ByteBuffer

    private struct Header: Decodable {
        var id: Int?
        var event: String?
        var version: String?
        var erlang: String?

        /// The node's versions, if this message reports that it is ready.
        var ready: NodeVersions? {
            guard event == "ready" else { return nil }
            return NodeVersions(
                rabbitMQ: version.flatMap(BrokerVersion.init) ?? BrokerVersion(0),
                erlang: erlang.flatMap(BrokerVersion.init) ?? BrokerVersion(0)
            )
        }
    }

    private let ready: EventLoopPromise<NodeVersions>
    private var waiting: [Int: EventLoopPromise<ByteBuffer>] = [:]
    private var lastID = 0
    private var received = ByteBuffer()

    init(ready: EventLoopPromise<NodeVersions>) {
        self.ready = ready
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        switch unwrapOutboundIn(data) {
        case .text(let text):
            context.write(wrapOutboundOut(ByteBuffer(string: text)), promise: promise)
        case .request(let command, let arguments, let answer):
            lastID += 1
            let id = lastID
            var request = arguments
            request["id"] = .number(id)
            request["command"] = .text(command)
            do {
                let json = try JSONEncoder().encode(request)
                var buffer = context.channel.allocator.buffer(capacity: json.count + 4)
                buffer.writeInteger(UInt32(json.count))
                buffer.writeBytes(json)
                waiting[id] = answer
                // A request that was given up is not kept for an answer that may never come.
                answer.futureResult.assumeIsolated().whenComplete { _ in self.waiting[id] = nil }
                context.write(wrapOutboundOut(buffer), promise: promise)
            } catch {
                answer.fail(LocalBrokerError.requestFailed(command: command, reason: "\(error)"))
                promise?.fail(error)
            }
        }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        received.writeBuffer(&bytes)
        while let message = received.readLengthPrefixedSlice(as: UInt32.self) {
            let header = try? JSONDecoder().decode(Header.self, from: Data(message.readableBytesView))
            if let versions = header?.ready { ready.succeed(versions) }
            if let id = header?.id { waiting.removeValue(forKey: id)?.succeed(message) }
        }
        received.discardReadBytes()
    }

    func channelInactive(context: ChannelHandlerContext) {
        ready.fail(LocalBrokerError.notRunning)
        for answer in waiting.values { answer.fail(LocalBrokerError.notRunning) }
        context.fireChannelInactive()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .some(.inputClosed) = event as? ChannelEvent { context.close(promise: nil) }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        context.close(promise: nil)
    }
}
