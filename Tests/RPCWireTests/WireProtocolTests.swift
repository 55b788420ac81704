import AMQPPool
import NIOCore
import RPCWire
import Testing

@Suite("docs/wire-protocol.md")
struct WireProtocolTests {
    let examples: [String: WireExample]

    init() throws {
        examples = try WireExample.all()
    }

    func example(_ name: String) throws -> WireExample {
        try #require(examples[name], "the page has no example \"\(name)\"")
    }

    @Test("the page's examples are these")
    func names() {
        #expect(Set(examples.keys) == ["call", "result", "failure", "cast"])
    }

    @Test("the bytes of each example say what its lines say", arguments: ["call", "result", "failure", "cast"])
    func bytesAreTheLines(_ name: String) throws {
        let example = try example(name)
        let written = try WireExample.encoded(example.properties, ByteBuffer(string: example["text"]))
        #expect(written.header == example["header"])
        #expect(written.body == example["body"])
        let (properties, body) = try example.decoded()
        #expect(properties == example.properties)
        #expect(String(buffer: body) == example["text"])
    }

    @Test("a caller writes the example's call, byte for byte")
    func callerWritesCall() throws {
        let example = try example("call")
        let request = RequestMessage(
            id: try #require(RequestID(example["correlation_id"])),
            destination: "math",
            procedure: "add",
            replyTo: example["reply_to"],
            remaining: .milliseconds(4999) + .microseconds(1),
            contentType: JSON.contentType,
            body: try JSON.encode([4, 9])
        )
        let written = try WireExample.encoded(request.properties, request.body)
        #expect(written.header == example["header"])
        #expect(written.body == example["body"])
        #expect(RPCNames().exchange == example["exchange"])
        #expect(example["reply_to"].hasPrefix("checkout" + RPCNames().replyQueueInfix))
    }

    @Test("a caller writes the example's cast, byte for byte")
    func callerWritesCast() throws {
        let example = try example("cast")
        let request = RequestMessage(
            id: try #require(RequestID(example["correlation_id"])),
            destination: "audit",
            procedure: "log",
            replyTo: nil,
            remaining: nil,
            contentType: JSON.contentType,
            body: try JSON.encode("paid")
        )
        let written = try WireExample.encoded(request.properties, request.body)
        #expect(written.header == example["header"])
        #expect(written.body == example["body"])
    }

    @Test("a receiver reads the example's call")
    func receiverReadsCall() throws {
        let (properties, body) = try example("call").decoded()
        let request = try RequestMessage(properties: properties, body: body)
        #expect(request.destination == "math")
        #expect(request.procedure == "add")
        #expect(request.timeoutMilliseconds == 5000)
        #expect(request.replyTo == "checkout.replies.9d4f7c52-1f0b-4a4e-9d5e-3c1b2a690788")
        #expect(request.messageID == request.correlationID)
        #expect(try JSON.decode([Int].self, from: request.body) == [4, 9])
    }

    @Test("a receiver writes the example's result and failure, byte for byte")
    func receiverWritesReplies() throws {
        let result = try example("result")
        let id = result["correlation_id"]
        let reply = ReplyMessage(result: RPCReply(body: try JSON.encode(13)), correlationID: id)
        #expect(try WireExample.encoded(reply.properties, reply.body).header == result["header"])
        #expect(try WireExample.encoded(reply.properties, reply.body).body == result["body"])

        let example = try example("failure")
        let failure = RPCFailure(code: "out_of_stock", message: "only 2 left", details: ["left": 2])
        let error = ReplyMessage(failure: failure, correlationID: id)
        #expect(try WireExample.encoded(error.properties, error.body).header == example["header"])
        #expect(try WireExample.encoded(error.properties, error.body).body == example["body"])
    }

    @Test("a caller reads the example's result and failure")
    func callerReadsReplies() throws {
        let (properties, body) = try example("result").decoded()
        let result = ReplyMessage(properties: properties, body: body)
        #expect(result.failure == nil)
        #expect(try JSON.decode(Int.self, from: result.body) == 13)
        #expect(result.correlationID.flatMap(RequestID.init) != nil)

        let (errorProperties, errorBody) = try example("failure").decoded()
        let error = ReplyMessage(properties: errorProperties, body: errorBody)
        #expect(
            error.failure == RPCFailure(code: "out_of_stock", message: "only 2 left", details: ["left": 2])
        )
    }

    @Test("every code of the library stands on the page")
    func codes() throws {
        let page = try WireExample.page()
        let codes: [RPCFailure.Code] = [
            .unknownProcedure, .undecodableRequest, .internalError, .unencodableResult, .handlerTimeout, .overloaded,
            .poison, .unsupportedContentType,
        ]
        for code in codes {
            #expect(page.contains("| `\(code)` |"), "\(code)")
        }
    }
}
