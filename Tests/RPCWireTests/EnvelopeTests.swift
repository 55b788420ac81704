import AMQPPool
import NIOCore
import RPCWire
import Testing

@Suite("Envelopes")
struct EnvelopeTests {
    @Test(
        "the time left is written in whole milliseconds, rounded up, within what the broker takes",
        arguments: [
            (Duration.zero, Int64(1)), (.seconds(-3), 1), (.nanoseconds(1), 1), (.milliseconds(1), 1),
            (.microseconds(1001), 2), (.seconds(5), 5000), (.seconds(Int64.max), 4_294_967_295),
            (.milliseconds(4_294_967_295), 4_294_967_295), (.milliseconds(4_294_967_296), 4_294_967_295),
        ]
    )
    func milliseconds(_ time: Duration, _ expected: Int64) {
        #expect(RequestMessage.milliseconds(time) == expected)
    }

    @Test(
        "a timeout may come in any integer type or as text",
        arguments: [
            FieldValue.int8(100), .uint8(100), .int16(100), .uint16(100), .int32(100), .uint32(100), .int64(100),
            .uint64(100),
            .string("100"),
        ]
    )
    func timeouts(_ value: FieldValue) throws {
        let properties = MessageProperties(headers: ["timeout-ms": value])
        #expect(try RequestMessage(properties: properties, body: ByteBuffer()).timeoutMilliseconds == 100)
    }

    @Test("a timeout below zero is zero, one beyond all bounds is bounded")
    func timeoutBounds() throws {
        let negative = MessageProperties(headers: ["timeout-ms": .int64(-5)])
        #expect(try RequestMessage(properties: negative, body: ByteBuffer()).timeoutMilliseconds == 0)
        let huge = MessageProperties(headers: ["timeout-ms": .uint64(.max)])
        #expect(
            try RequestMessage(properties: huge, body: ByteBuffer()).timeoutMilliseconds
                == RequestMessage.maximumTimeoutMilliseconds
        )
    }

    @Test(
        "a header of the wrong type is an undecodable request",
        arguments: [
            ("procedure", FieldValue.int64(1)), ("procedure", .bytes([0xFF])), ("destination", .bool(true)),
            ("timeout-ms", .string("soon")), ("timeout-ms", .table(FieldTable())),
        ]
    )
    func wrongTypes(_ name: String, _ value: FieldValue) {
        let properties = MessageProperties(headers: FieldTable(entries: [.init(key: name, value: value)]))
        #expect {
            try RequestMessage(properties: properties, body: ByteBuffer())
        } throws: {
            ($0 as? RPCFailure)?.code == .undecodableRequest
        }
    }

    @Test("a bare message without any property is a request to the default procedure, without a reply")
    func bare() throws {
        let request = try RequestMessage(properties: MessageProperties(), body: ByteBuffer(string: "30"))
        #expect(request.procedure == nil)
        #expect(request.replyTo == nil)
        #expect(request.timeoutMilliseconds == nil)
        #expect(try RequestMessage(properties: MessageProperties(replyTo: ""), body: ByteBuffer()).replyTo == nil)
    }

    @Test("a failure whose body says nothing keeps the code of its header")
    func codeWithoutBody() {
        let properties = MessageProperties(headers: ["error": "out_of_stock"])
        let failure = ReplyMessage(properties: properties, body: ByteBuffer(string: "sorry")).failure
        #expect(failure?.code == "out_of_stock")
        #expect(failure?.message.isEmpty == false)
    }

    @Test(
        "a foreign failure keeps its code, and what its body says of it",
        arguments: [
            ("application/json", #""no stock""#, RPCFailure(code: "x", message: "no stock")),
            ("application/json", #"{"message":"no","code":17}"#, RPCFailure(code: "x", message: "no")),
            ("application/json", #"{"message":"no","details":null}"#, RPCFailure(code: "x", message: "no")),
            ("application/json", #"{"code":"y"}"#, RPCFailure(code: "x", message: "")),
            ("text/plain", "no stock", RPCFailure(code: "x", message: "no stock")),
        ]
    )
    func foreignBodies(_ type: String, _ body: String, _ expected: RPCFailure) {
        let properties = MessageProperties(contentType: type, headers: ["error": "x"])
        #expect(ReplyMessage(properties: properties, body: ByteBuffer(string: body)).failure == expected)
    }

    @Test("other JSON is kept as details, and bytes that say nothing leave the code")
    func oddBodies() {
        let failure = { (type: String?, body: ByteBuffer) in
            ReplyMessage(properties: MessageProperties(contentType: type, headers: ["error": "x"]), body: body).failure
        }
        #expect(failure(nil, ByteBuffer(string: #"{"reason":1}"#))?.details == ["reason": 1])
        #expect(failure(nil, ByteBuffer(string: "[1]"))?.details == [1])
        for body in [ByteBuffer(), ByteBuffer(bytes: [0xFF, 0]), ByteBuffer(string: "null")] {
            let odd = failure("application/json", body)
            #expect(odd?.code == "x")
            #expect(odd?.message.isEmpty == false)
            #expect(odd?.details == nil)
        }
        let long = failure("text/plain", ByteBuffer(string: String(repeating: "x", count: 100_000)))
        #expect((long?.message.count ?? 0) <= 1000)
        let deep = failure(nil, ByteBuffer(string: String(repeating: "[", count: 100_000)))
        #expect(deep?.code == "x")
    }

    @Test(
        "a header of one's own goes along; the protocol's cannot be set",
        arguments: ["destination", "procedure", "timeout-ms"]
    )
    func ownHeaders(_ name: String) {
        let id = RequestID()
        let properties = { (headers: FieldTable) in
            RequestMessage(
                id: id,
                destination: "math",
                procedure: "add",
                replyTo: "replies",
                remaining: .seconds(1),
                contentType: nil,
                headers: headers,
                body: ByteBuffer()
            ).properties
        }
        let headers: FieldTable = ["tenant": "blue", "x": 1]
        #expect(properties(headers).headers["tenant"] == "blue")
        #expect(properties(headers).headers["x"] == 1)
        var forged = headers
        forged[name] = "forged"
        #expect(properties(forged) == properties(headers))
        var reply = RPCReply(headers: ["cost": 3])
        let plain = ReplyMessage(result: reply, correlationID: nil).properties
        #expect(plain.headers == ["cost": 3])
        reply.headers["error"] = "forged"
        #expect(ReplyMessage(result: reply, correlationID: nil).properties == plain)
    }

    @Test("the header decides what a reply is, not its body")
    func headerDecides() {
        let body = ByteBuffer(string: #"{"code":"internal","message":"no"}"#)
        #expect(ReplyMessage(properties: MessageProperties(), body: body).failure == nil)
        let other = ReplyMessage(properties: MessageProperties(headers: ["error": "mine"]), body: body).failure
        #expect(other == RPCFailure(code: "mine", message: "no"))
    }

    @Test("details that JSON cannot write are left out of a failure")
    func unwritableDetails() {
        let failure = RPCFailure(code: "mine", message: "no", details: .number(.infinity))
        let reply = ReplyMessage(failure: failure, correlationID: nil)
        #expect(reply.failure == RPCFailure(code: "mine", message: "no"))
    }
}

@Suite("Request ids")
struct RequestIDTests {
    @Test("an id is a version 4 UUID and reads back, in either case")
    func roundTrip() throws {
        for _ in 0..<1000 {
            let id = RequestID()
            let text = id.description
            #expect(text.utf8.count == 36)
            #expect(Array(text)[14] == "4")
            #expect("89ab".contains(Array(text)[19]))
            #expect(RequestID(text) == id)
            #expect(RequestID(text.uppercased()) == id)
        }
    }

    @Test("its text is its bits in order")
    func bits() throws {
        let id = try #require(RequestID("00112233-4455-4677-8899-aabbccddeeff"))
        #expect(id.high == 0x0011_2233_4455_4677)
        #expect(id.low == 0x8899_AABB_CCDD_EEFF)
        #expect(id.description == "00112233-4455-4677-8899-aabbccddeeff")
    }

    @Test(
        "anything else is not an id",
        arguments: [
            "", "1", "00112233-4455-4677-8899-aabbccddeef", "00112233-4455-4677-8899-aabbccddeeff0",
            "00112233x4455-4677-8899-aabbccddeeff", "0011223--4455-4677-8899-aabbccddeeff",
            "g0112233-4455-4677-8899-aabbccddeeff", "00112233-4455-4677-8899-aabbccddeé",
        ]
    )
    func rejects(_ text: String) {
        #expect(RequestID(text) == nil)
    }
}
