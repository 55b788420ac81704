import NIOCore
import NIOHTTP1
import NIOPosix
import Synchronization

#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// A client of an observer, for `rpc top` and tests. One connection per request, HTTP/1.1 without encryption.
package struct ObserverClient: Sendable {
    package enum Failure: Error, Sendable, CustomStringConvertible {
        case invalidURL(String)
        case unreachable(String)
        case tooLong
        case timeout
        case refused(status: Int, String)
        case undecodable(String)

        package var description: String {
            switch self {
            case .invalidURL(let url): "'\(url)' is not an address of an observer: http://HOST:PORT/ is expected"
            case .unreachable(let why): "the observer cannot be reached: \(why)"
            case .tooLong: "the observer's answer is too long"
            case .timeout: "the observer does not answer"
            case .refused(let status, let text): "the observer refused: \(text) (\(status))"
            case .undecodable(let why): "the observer's answer is of another version: \(why)"
            }
        }
    }

    package struct Answer: Sendable {
        package var status: Int
        var headers: [(name: String, value: String)]
        package var body: [UInt8]

        func header(_ name: String) -> String? {
            headers.first { $0.name.lowercased() == name.lowercased() }?.value
        }

        var text: String { String(decoding: body, as: UTF8.self) }
    }

    /// One server-sent event.
    package struct Message: Sendable {
        package var name: String
        package var data: String
    }

    static let maximumBody = 16 * 1024 * 1024

    package let host: String
    package let port: Int
    /// The path of the observer, which begins and ends with `/`.
    let path: String

    /// - Parameter url: `http://HOST:PORT/PATH`, or `HOST:PORT`.
    package init(url: String) throws(Failure) {
        var rest = url[...]
        if rest.lowercased().hasPrefix("http://") {
            rest = rest.dropFirst(7)
        } else if rest.contains("://") {
            throw .invalidURL(url)
        }
        let authority = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        var path = String(rest[authority.endIndex...].prefix { $0 != "?" && $0 != "#" })
        if !path.hasSuffix("/") { path += "/" }
        if !path.hasPrefix("/") { path = "/" + path }
        var name = authority
        var port: Substring = "80"
        if authority.hasPrefix("[") {
            guard let end = authority.firstIndex(of: "]") else { throw .invalidURL(url) }
            name = authority[authority.index(after: authority.startIndex)..<end]
            let after = authority[authority.index(after: end)...]
            if after.hasPrefix(":") { port = after.dropFirst() } else if !after.isEmpty { throw .invalidURL(url) }
        } else if let colon = authority.lastIndex(of: ":") {
            name = authority[..<colon]
            port = authority[authority.index(after: colon)...]
        }
        guard !name.isEmpty, let number = UInt16(port), !name.contains("@") else { throw .invalidURL(url) }
        host = String(name)
        self.port = Int(number)
        self.path = path
    }

    private var authority: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

    // MARK: Documents

    package func get<Document: Decodable & Sendable>(
        _ path: String,
        as type: Document.Type = Document.self
    ) async throws(Failure) -> Document {
        try decode(await request("GET", path))
    }

    package func post<Document: Decodable & Sendable>(
        _ path: String,
        _ body: some Encodable & Sendable,
        token: String? = nil,
        as type: Document.Type = Document.self
    ) async throws(Failure) -> Document {
        guard let data = try? JSONEncoder().encode(body) else { throw .undecodable("the question cannot be encoded") }
        var headers = [("Content-Type", "application/json")]
        if let token { headers.append(("Authorization", "Bearer \(token)")) }
        return try decode(await request("POST", path, headers: headers, body: Array(data)))
    }

    private func decode<Document: Decodable>(_ answer: Answer) throws(Failure) -> Document {
        guard answer.status == 200 else {
            let refusal = try? JSONDecoder().decode(Refusal.self, from: Data(answer.body))
            throw .refused(status: answer.status, DisplayText.line(refusal?.error ?? "it is not an observer"))
        }
        do {
            return try JSONDecoder().decode(Document.self, from: Data(answer.body))
        } catch {
            throw .undecodable(DisplayText.line("\(error)"))
        }
    }

    // MARK: Requests

    /// - Parameter path: Relative to the observer's.
    package func request(
        _ method: String,
        _ path: String,
        headers: [(String, String)] = [],
        body: [UInt8] = [],
        timeout: Duration = .seconds(10)
    ) async throws(Failure) -> Answer {
        let (stream, channel) = try await send(method, path, headers: headers, body: body, timeout: timeout)
        let timer = channel.eventLoop.scheduleTask(in: TimeAmount(timeout)) { channel.close(promise: nil) }
        defer {
            timer.cancel()
            channel.close(promise: nil)
        }
        var answer = Answer(status: 0, headers: [], body: [])
        do {
            for try await part in stream {
                switch part {
                case .head(let head):
                    answer.status = Int(head.status.code)
                    answer.headers = head.headers.map { ($0.name, $0.value) }
                case .body(let bytes):
                    answer.body += bytes.readableBytesView
                    if answer.body.count > Self.maximumBody { throw Failure.tooLong }
                case .end: return answer
                }
            }
        } catch {
            throw error as? Failure ?? .unreachable(DisplayText.line("\(error)"))
        }
        throw .timeout
    }

    /// Follows the observer's event stream until it ends; `body` returns false to end it.
    package func follow(_ body: (Message) async throws -> Bool) async throws {
        let (stream, channel) = try await send("GET", "api/stream", headers: [], body: [], timeout: .seconds(10))
        defer { channel.close(promise: nil) }
        var parser = MessageParser()
        for try await part in stream {
            switch part {
            case .head(let head):
                guard head.status == .ok else { throw Failure.refused(status: Int(head.status.code), "\(head.status)") }
            case .body(let bytes):
                for message in try parser.take(bytes) where try await !body(message) { return }
            case .end: return
            }
        }
    }

    private func send(
        _ method: String,
        _ path: String,
        headers: [(String, String)],
        body: [UInt8],
        timeout: Duration
    ) async throws(Failure) -> (AsyncThrowingStream<HTTPClientResponsePart, any Error>, any Channel) {
        // Unbounded, so that a slow reader loses nothing: the observer bounds what it sends, a second at a time.
        let (stream, continuation) = AsyncThrowingStream.makeStream(of: HTTPClientResponsePart.self)
        do {
            let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connectTimeout(TimeAmount(timeout))
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHTTPClientHandlers()
                        try channel.pipeline.syncOperations.addHandler(AnswerHandler(continuation))
                    }
                }
                .connect(host: host, port: port).get()
            var fields = HTTPHeaders()
            if !headers.contains(where: { $0.0.lowercased() == "host" }) { fields.add(name: "Host", value: authority) }
            for (name, value) in headers { fields.add(name: name, value: value) }
            if !body.isEmpty { fields.replaceOrAdd(name: "Content-Length", value: "\(body.count)") }
            let head = HTTPRequestHead(
                version: .http1_1,
                method: .RAW(value: method),
                uri: self.path + path,
                headers: fields
            )
            channel.write(HTTPClientRequestPart.head(head), promise: nil)
            if !body.isEmpty {
                channel.write(HTTPClientRequestPart.body(.byteBuffer(ByteBuffer(bytes: body))), promise: nil)
            }
            try await channel.writeAndFlush(HTTPClientRequestPart.end(nil)).get()
            return (stream, channel)
        } catch {
            throw .unreachable("\(authority): \(DisplayText.line("\(error)"))")
        }
    }
}

/// Passes the parts of a response to a stream.
private final class AnswerHandler: ChannelInboundHandler, Sendable {
    typealias InboundIn = HTTPClientResponsePart

    private let continuation: AsyncThrowingStream<HTTPClientResponsePart, any Error>.Continuation

    init(_ continuation: AsyncThrowingStream<HTTPClientResponsePart, any Error>.Continuation) {
        self.continuation = continuation
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        continuation.yield(unwrapInboundIn(data))
    }

    func channelInactive(context: ChannelHandlerContext) {
        continuation.finish()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        continuation.finish(throwing: error)
        context.close(promise: nil)
    }
}

/// Parses server-sent events from bytes in arbitrary chunks.
struct MessageParser: Sendable {
    static let maximumLine = 4 * 1024 * 1024

    private var line: [UInt8] = []
    private var name = ""
    private var data: [String] = []

    mutating func take(_ bytes: ByteBuffer) throws(ObserverClient.Failure) -> [ObserverClient.Message] {
        var messages: [ObserverClient.Message] = []
        for byte in bytes.readableBytesView {
            switch byte {
            case UInt8(ascii: "\n"):
                if let message = endLine() { messages.append(message) }
            case UInt8(ascii: "\r"): continue
            default:
                line.append(byte)
                if line.count > Self.maximumLine { throw .tooLong }
            }
        }
        return messages
    }

    private mutating func endLine() -> ObserverClient.Message? {
        defer { line.removeAll(keepingCapacity: true) }
        guard !line.isEmpty else {
            defer {
                name = ""
                data = []
            }
            return data.isEmpty ? nil : ObserverClient.Message(name: name, data: data.joined(separator: "\n"))
        }
        let text = String(decoding: line, as: UTF8.self)
        if text.hasPrefix("event: ") { name = String(text.dropFirst(7)) }
        if text.hasPrefix("data: ") { data.append(String(text.dropFirst(6))) }
        return nil
    }
}
