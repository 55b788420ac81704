import NIOCore
import Testing

@testable import AMQPPool

@Suite("What cannot be sent is refused before a byte is written")
struct EncodingLimitsTests {
    /// Methods and messages made of one text, by the name of the field it stands in.
    static let shortStrings: [(String, @Sendable (String) -> (Method, MessageProperties?))] = [
        ("exchange", { (.basicPublish(exchange: $0, routingKey: "", mandatory: true), MessageProperties()) }),
        ("routing-key", { (.basicPublish(exchange: "", routingKey: $0, mandatory: true), MessageProperties()) }),
        ("queue", { (.queueDeclare(QueueDeclare(queue: $0)), nil) }),
        ("queue", { (.queueDelete(queue: $0, ifUnused: false, ifEmpty: false), nil) }),
        ("queue", { (.queuePurge(queue: $0), nil) }),
        ("queue", { (.basicGet(queue: $0, noAck: false), nil) }),
        ("exchange", { (.exchangeDeclare(ExchangeDeclare(exchange: $0, type: "t")), nil) }),
        ("type", { (.exchangeDeclare(ExchangeDeclare(exchange: "e", type: $0)), nil) }),
        ("exchange", { (.exchangeDelete(exchange: $0, ifUnused: false), nil) }),
        ("destination", { (.exchangeBind(destination: $0, source: "", routingKey: "", arguments: [:]), nil) }),
        ("source", { (.exchangeUnbind(destination: "", source: $0, routingKey: "", arguments: [:]), nil) }),
        ("routing-key", { (.queueBind(queue: "", exchange: "", routingKey: $0, arguments: [:]), nil) }),
        ("exchange", { (.queueUnbind(queue: "", exchange: $0, routingKey: "", arguments: [:]), nil) }),
        ("consumer-tag", { (.basicConsume(BasicConsume(queue: "", consumerTag: $0)), nil) }),
        ("consumer-tag", { (.basicCancel(consumerTag: $0, noWait: false), nil) }),
        ("virtual-host", { (.connectionOpen(virtualHost: $0), nil) }),
        ("reply-text", { (.channelClose(CloseReason(replyCode: 200, replyText: $0)), nil) }),
        ("reply-text", { (.connectionClose(CloseReason(replyCode: 200, replyText: $0)), nil) }),
        ("reason", { (.connectionUpdateSecret(newSecret: [], reason: $0), nil) }),
        ("the key of a table's field", { (.queueDeclare(QueueDeclare(queue: "", arguments: [$0: .void])), nil) }),
        ("content-type", { (publish, MessageProperties(contentType: $0)) }),
        ("content-encoding", { (publish, MessageProperties(contentEncoding: $0)) }),
        ("correlation-id", { (publish, MessageProperties(correlationID: $0)) }),
        ("reply-to", { (publish, MessageProperties(replyTo: $0)) }),
        ("message-id", { (publish, MessageProperties(messageID: $0)) }),
        ("type", { (publish, MessageProperties(type: $0)) }),
        ("user-id", { (publish, MessageProperties(userID: $0)) }),
        ("app-id", { (publish, MessageProperties(appID: $0)) }),
        ("the key of a table's field", { (publish, MessageProperties(headers: [$0: .void])) }),
        ("the key of a table's field", { (publish, MessageProperties(headers: ["t": .table([$0: .void])])) }),
    ]
    static let publish = Method.basicPublish(exchange: "", routingKey: "q", mandatory: false)

    /// Encodes behind some bytes that are there already, and gives what was added.
    private func added(
        _ method: Method,
        _ properties: MessageProperties?,
        body: [UInt8] = [],
        maximumFrameSize: UInt32 = 131_072
    ) throws(EncodingError) -> [UInt8] {
        let encoder = FrameEncoder(maximumFrameSize: maximumFrameSize)
        var buffer = ByteBuffer(bytes: [9, 1, 2, 3])
        buffer.moveReaderIndex(forwardBy: 1)
        do throws(EncodingError) {
            if let properties {
                try encoder.encode(
                    method,
                    channel: 7,
                    properties: properties,
                    body: ByteBuffer(bytes: body),
                    into: &buffer
                )
            } else {
                try encoder.encode(method, channel: method.someChannel, into: &buffer)
            }
        } catch {
            #expect(Array(buffer.readableBytesView) == [1, 2, 3])
            // The encoder is as good as new.
            try encoder.encode(.basicAck(deliveryTag: 1, multiple: false), channel: 1, into: &buffer)
            #expect(buffer.readableBytes == 3 + 21)
            throw error
        }
        return Array(buffer.readableBytesView.dropFirst(3))
    }

    @Test("a short string has at most 255 bytes of UTF-8 and no NUL", arguments: shortStrings.indices)
    func shortString(_ index: Int) throws {
        let (field, make) = Self.shortStrings[index]
        for fits in ["", "a", String(repeating: "a", count: 255), String(repeating: "ü", count: 127) + "a"] {
            let (method, properties) = make(fits)
            let frames = try decoded(added(method, properties))
            #expect(frames.first == .method(channel: method.someChannel, method))
            if let properties { #expect(frames.last == .header(channel: 7, bodySize: 0, .success(properties))) }
        }
        for (text, bytes) in [
            (String(repeating: "a", count: 256), 256), (String(repeating: "ü", count: 128), 256),
            (String(repeating: "x", count: 1_000_000), 1_000_000),
        ] {
            let (method, properties) = make(text)
            #expect(throws: EncodingError.shortStringTooLong(field: field, bytes: bytes, limit: 255)) {
                try added(method, properties)
            }
        }
        for text in ["\0", "a\0", "\0b", String(repeating: "a", count: 100) + "\0b"] {
            let (method, properties) = make(text)
            #expect(throws: EncodingError.containsNUL(field: field)) { try added(method, properties) }
        }
    }

    @Test("an expiration is a number of milliseconds", arguments: ["0", "1", "0001", "60000", "4294967295"])
    func expiration(_ text: String) throws {
        let properties = MessageProperties(expiration: text)
        #expect(
            try decoded(added(Self.publish, properties)).last == .header(channel: 7, bodySize: 0, .success(properties))
        )
    }

    @Test(
        "anything else is no expiration",
        arguments: ["", " ", "-1", "+1", "1.5", "1e3", "4294967296", "١", "10 ", "99999999999999999999999", "\0"]
    )
    func noExpiration(_ text: String) {
        #expect(throws: EncodingError.invalidExpiration(text)) {
            try added(Self.publish, MessageProperties(expiration: text))
        }
    }

    @Test("further routing keys are an array", arguments: ["CC", "BCC"])
    func copies(_ header: String) throws {
        for value in [.string("queue"), .int64(1), .table([:]), .void, .bool(true)] as [FieldValue] {
            #expect(throws: EncodingError.invalidCopies(header: header)) {
                try added(Self.publish, MessageProperties(headers: [header: value]))
            }
        }
        for value in [.array([]), .array([.string("queue")])] as [FieldValue] {
            let properties = MessageProperties(headers: [header: value])
            #expect(
                try decoded(added(Self.publish, properties)).last
                    == .header(channel: 7, bodySize: 0, .success(properties))
            )
        }
    }

    @Test("a body is cut into frames of at most the negotiated size", arguments: [4096, 5000, 131_072] as [UInt32])
    func bodies(_ maximumFrameSize: UInt32) throws {
        let chunk = Int(maximumFrameSize) - 8
        for (size, frames) in [
            (0, 0), (1, 1), (chunk - 1, 1), (chunk, 1), (chunk + 1, 2), (2 * chunk - 1, 2), (2 * chunk, 2),
            (2 * chunk + 1, 3), (5 * chunk, 5),
        ] {
            let body = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }
            let bytes = try added(Self.publish, MessageProperties(), body: body, maximumFrameSize: maximumFrameSize)
            let all = try decoded(bytes, maximumFrameSize: maximumFrameSize)
            #expect(all.count == 2 + frames)
            #expect(all[1] == .header(channel: 7, bodySize: UInt64(size), .success(MessageProperties())))
            var received: [UInt8] = []
            for frame in all.dropFirst(2) {
                guard case .body(7, let part) = frame else {
                    Issue.record("not a body frame")
                    return
                }
                #expect((1...chunk).contains(part.readableBytes))
                received += Array(part.readableBytesView)
            }
            #expect(received == body)
        }
    }

    @Test("properties and headers fill one frame to the last byte, and not one more")
    func headersFillAFrame() throws {
        // 4096 - 8 of framing - 12 of class, weight and body size - 2 of flags - 4 of table - 1 + 1 + 1 + 4 of the field
        let fits = 4096 - 8 - 12 - 2 - 4 - 7
        func properties(_ count: Int) -> MessageProperties {
            MessageProperties(headers: ["k": .string(String(repeating: "v", count: count))])
        }
        let bytes = try added(Self.publish, properties(fits), maximumFrameSize: 4096)
        #expect(
            try decoded(bytes, maximumFrameSize: 4096).last
                == .header(channel: 7, bodySize: 0, .success(properties(fits)))
        )
        for count in [fits + 1, fits + 2, fits + 3, fits + 100] {
            let error = #expect(throws: EncodingError.self) {
                try added(Self.publish, properties(count), body: [1], maximumFrameSize: 4096)
            }
            guard case .headersTooLarge(_, limit: 4076)? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
        #expect(throws: EncodingError.headersTooLarge(bytes: 50_000_011, limit: 131_052)) {
            try added(Self.publish, properties(50_000_000))
        }
    }

    @Test("the arguments of a method fill one frame to the last byte, and not one more")
    func argumentsFillAFrame() throws {
        // 4096 - 8 of framing - 4 of id - 2 of ticket - 1 of queue - 1 of flags - 4 of table - 7 of the field
        let fits = 4096 - 8 - 4 - 2 - 1 - 1 - 4 - 7
        func method(_ count: Int) -> Method {
            .queueDeclare(QueueDeclare(queue: "", arguments: ["k": .bytes(Array(repeating: 1, count: count))]))
        }
        let bytes = try added(method(fits), nil, maximumFrameSize: 4096)
        #expect(bytes.count == 4096)
        #expect(try decoded(bytes, maximumFrameSize: 4096) == [.method(channel: 7, method(fits))])
        for count in [fits + 1, fits + 3, fits + 4, fits + 1000] {
            let error = #expect(throws: EncodingError.self) { try added(method(count), nil, maximumFrameSize: 4096) }
            guard case .argumentsTooLarge? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
        #expect(throws: EncodingError.argumentsTooLarge(bytes: 5004, limit: 4084)) {
            try added(.connectionSecureOK(response: Array(repeating: 0, count: 5000)), nil, maximumFrameSize: 4096)
        }
        #expect(throws: EncodingError.argumentsTooLarge(bytes: 5004, limit: 4084)) {
            try added(
                .connectionUpdateSecret(newSecret: Array(repeating: 0, count: 5000), reason: ""),
                nil,
                maximumFrameSize: 4096
            )
        }
    }

    @Test("tables and arrays nest 16 levels deep, and not one more")
    func nesting() throws {
        func nested(_ levels: Int, array: Bool) -> FieldTable {
            var table: FieldTable = [:]
            for level in 1..<max(levels, 1) {
                table = array && level == 1 ? ["a": .array([])] : ["t": .table(table)]
            }
            return table
        }
        for array in [true, false] {
            let properties = MessageProperties(headers: nested(16, array: array))
            let frames = try decoded(added(Self.publish, properties))
            #expect(frames.last == .header(channel: 7, bodySize: 0, .success(properties)))
            for levels in [17, 18, 1000] {
                #expect(throws: EncodingError.nestedTooDeeply(limit: 16)) {
                    try added(Self.publish, MessageProperties(headers: nested(levels, array: array)))
                }
                #expect(throws: EncodingError.nestedTooDeeply(limit: 16)) {
                    try added(
                        .queueDeclare(QueueDeclare(queue: "q", arguments: nested(levels, array: array))),
                        nil
                    )
                }
            }
        }
    }

    @Test("a table has 8192 values, and not one more")
    func fields() throws {
        func properties(_ count: Int) -> MessageProperties {
            MessageProperties(headers: ["a": .array(Array(repeating: .void, count: count - 1))])
        }
        let frames = try decoded(added(Self.publish, properties(8192)))
        #expect(frames.last == .header(channel: 7, bodySize: 0, .success(properties(8192))))
        #expect(throws: EncodingError.tooManyFields(limit: 8192)) { try added(Self.publish, properties(8193)) }
    }

    @Test("a method without content takes none, and an unknown one is not sent")
    func methods() {
        #expect(throws: EncodingError.unsupportedMethod("queue.purge")) {
            try added(.queuePurge(queue: "q"), MessageProperties())
        }
        #expect(throws: EncodingError.unsupportedMethod("method 90.10")) {
            try added(.unsupported(id: 90 << 16 | 10), nil)
        }
    }

    @Test("a frame size below AMQP's minimum counts as the minimum", arguments: [0, 1, 7, 8, 4095] as [UInt32])
    func minimum(_ size: UInt32) throws {
        let encoder = FrameEncoder(maximumFrameSize: size)
        #expect(encoder.maximumFrameSize == 4096)
        encoder.maximumFrameSize = 131_072
        encoder.maximumFrameSize = size
        #expect(encoder.maximumFrameSize == 4096)
        let decoder = FrameDecoder(maximumFrameSize: size)
        #expect(decoder.maximumFrameSize == 4096)
        decoder.maximumFrameSize = size
        #expect(decoder.maximumFrameSize == 4096)
    }

    @Test("a method is described without its arguments, which may be a password")
    func noPassword() {
        let method = Method.connectionStartOK(
            clientProperties: [:],
            mechanism: "PLAIN",
            response: Array("\0guest\0secret".utf8),
            locale: "en_US"
        )
        #expect("\(method)" == "connection.start-ok")
        #expect(String(reflecting: method) == "connection.start-ok")
    }
}
