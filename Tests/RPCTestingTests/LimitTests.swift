import AMQPPool
import NIOCore
import RPCCaller
import RPCReceiver
import RPCTesting
import Supervision
import Testing

/// What AMQP cannot carry is refused without a broker too, in the same words.
@Suite("The limits of the wire, without a broker", .timeLimit(.minutes(5)))
struct LimitTests {
    private static let long = String(repeating: "é", count: 128)

    /// Bytes of a content type that is no short string.
    private struct Named: RPCCodec {
        let contentType: String
        func encode(_ value: Int) -> ByteBuffer { ByteBuffer(string: "\(value)") }
        func decode(_ bytes: ByteBuffer) -> Int { Int(String(buffer: bytes)) ?? 0 }
    }

    private func refusal(_ body: () async throws(RPCError) -> Int) async -> String {
        switch await outcome(body) {
        case .failure(.invalidRequest(let why)): why
        case let other: "\(other)"
        }
    }

    private let rpc = RPCCaller.inProcess(["math": math]) { $0.timeout = .seconds(30) }

    @Test("a queue's name or a content type of more than 255 bytes is an invalid request")
    func shortStrings() async {
        let queue = await refusal { () throws(RPCError) in try await rpc.callQueue(Self.long, Math.add, [1]) }
        #expect(queue == "cannot be encoded: routing-key is 256 bytes of UTF-8, and at most 255 can be sent")
        let type = await refusal { () throws(RPCError) in
            try await rpc.call("math", RPCProcedure<Int, Int>("wait", codec: Named(contentType: Self.long)), 1)
        }
        #expect(type == "cannot be encoded: content-type is 256 bytes of UTF-8, and at most 255 can be sent")
        let nul = await refusal { () throws(RPCError) in try await rpc.callQueue("a\0b", Math.add, [1]) }
        #expect(nul == "\"a\\0b\" is not a valid name for a queue: it has a control character")
    }

    @Test("so are a procedure's name that fills a frame, and an argument over the limit")
    func sizes() async {
        let name = String(repeating: "x", count: 200_000)
        let large = await refusal { () throws(RPCError) in try await rpc.call("math", name, 1) }
        #expect(large.contains("one frame has room for 131"), "\(large)")
        let small = RPCCaller.inProcess(["math": math]) { $0.pool.connection.maximumMessageSize = 10 }
        let body = await refusal { () throws(RPCError) in try await small.call("math", "add", [1_000_000, 1_000_000]) }
        #expect(body == "a body of 17 bytes is over the limit of 10")
    }

    @Test("a reply that cannot be sent is an unencodable result")
    func reply() async {
        let rpc = RPCCaller.inProcess([
            "math": RPCHandlers {
                RPCHandler(
                    RPCProcedure<Int, Int>("named", request: JSONCodec(), response: Named(contentType: Self.long))
                ) {
                    n,
                    _ in n
                }
            }
        ])
        let result = await outcome { () throws(RPCError) in try await rpc.call("math", "named", 1, as: Int.self) }
        guard case .failure(.remote(let failure)) = result else {
            Issue.record("\(result)")
            return
        }
        #expect(failure.code == .unencodableResult)
        #expect(failure.message.contains("content-type is 256 bytes"))
    }

    @Test("a service that would not start is not there, and a caller that would not start is not connected")
    func services() async throws {
        let name = String(repeating: "x", count: 201)
        let absent = RPCCaller.inProcess([name: math])
        let unroutable = await outcome { () throws(RPCError) in try await absent.call(name, "add", [1], as: Int.self) }
        guard case .failure(.unroutable(name)) = unroutable else {
            Issue.record("\(unroutable)")
            return
        }
        let nameless = RPCCaller.inProcess(["math": math], service: name)
        await #expect {
            try await nameless.start()
        } throws: { error in
            "\(error)".contains("is not a valid name for a service: it must have 1 to 200 bytes")
        }
        let refused = await outcome { () throws(RPCError) in try await nameless.call("math", "add", [1], as: Int.self) }
        guard case .failure(.notConnected(let why)) = refused else {
            Issue.record("\(refused)")
            return
        }
        #expect(why.contains("is not a valid name for a service"))
    }
}
