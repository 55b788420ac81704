import NIOCore
import Testing

@testable import AMQPPool

@Suite("Hostile bytes are refused, never trusted")
struct HostileInputTests {
    /// Frames of every method and of messages, each on its own.
    static let corpus: [[UInt8]] = {
        var frames: [[UInt8]] = everyMethod.compactMap { try? encoded($0) }
        let messages: [MessageProperties] = [
            MessageProperties(), everyProperty, MessageProperties(headers: everyKind),
            MessageProperties(contentType: "application/json", correlationID: "c", replyTo: "r", expiration: "1"),
        ]
        for properties in messages {
            if let bytes = try? encoded(properties: properties, body: [1, 2, 3]) { frames.append(bytes) }
        }
        return frames
    }()

    /// New ones for each run. The test run prints them as arguments before it uses them, so a crash can be repeated, too.
    static let seeds: [UInt64] = (0..<6).map { _ in .random(in: .min ... .max) }

    @Test("a stream that is cut off anywhere gives the frames that are whole")
    func truncatedStream() throws {
        for bytes in Self.corpus {
            let whole = try decoded(bytes)
            for count in 0..<bytes.count {
                let frames = try decoded(Array(bytes.prefix(count)))
                #expect(frames.count < whole.count)
                #expect(frames == Array(whole.prefix(frames.count)))
            }
        }
    }

    @Test("arguments that are cut off anywhere are malformed", arguments: everyMethod)
    func truncatedArguments(_ method: Method) throws {
        let payload = try Array(encoded(method).dropFirst(7).dropLast())
        for count in 0..<payload.count {
            #expect(throws: FrameError.malformedMethod(id: count < 4 ? 0 : method.id)) {
                try decoded(frame(type: 1, channel: method.someChannel, payload: Array(payload.prefix(count))))
            }
        }
    }

    @Test("properties that are cut off anywhere, or go on, are malformed")
    func truncatedProperties() throws {
        let bytes = try encoded(
            .basicGetOK(deliveryTag: 1, redelivered: false, exchange: "", routingKey: "", messageCount: 0),
            properties: everyProperty
        )
        let methodSize = 8 + Int(bytes[6])
        let payload = Array(bytes.dropFirst(methodSize + 7 + 12).dropLast())
        #expect(try decodedProperties(payload) == .success(everyProperty))
        for count in 0..<payload.count {
            #expect(try decodedProperties(Array(payload.prefix(count))) == .failure(.malformed))
        }
        #expect(try decodedProperties(payload + [0]) == .failure(.malformed))
    }

    @Test("thousands of random mutations neither trap nor read outside of the frame", arguments: seeds)
    func mutations(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var survivors = 0
        for _ in 0..<2000 {
            guard var bytes = Self.corpus.randomElement(using: &generator) else { continue }
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let index = Int.random(in: 0..<bytes.count, using: &generator)
                switch Int.random(in: 0..<6, using: &generator) {
                case 0: bytes[index] = UInt8.random(in: .min ... .max, using: &generator)
                case 1: bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
                case 2: bytes[index] = [0, 1, 127, 128, 255].randomElement(using: &generator) ?? 0
                case 3: bytes.insert(UInt8.random(in: .min ... .max, using: &generator), at: index)
                case 4 where bytes.count > 1: bytes.remove(at: index)
                default: bytes[index] = Array("tbBsuIilLfdDSxATFV".utf8).randomElement(using: &generator) ?? 0
                }
            }
            // Half of them stay well framed, so that the decoders behind the framing see what was changed.
            if Bool.random(using: &generator), bytes.count > 8 {
                bytes = frame(
                    type: UInt8.random(in: 1...2, using: &generator),
                    channel: UInt16(bytes[2]),
                    payload: Array(bytes.dropFirst(7).dropLast())
                )
            }
            do throws(FrameError) {
                for frame in try decoded(bytes) { survivors += survived(frame) }
            } catch {}
        }
        #expect(survivors > 0)
    }

    /// What was decoded is a value like any other: it can be encoded, and decodes to itself.
    private func survived(_ frame: Frame) -> Int {
        guard case .header(_, _, .success(let properties)) = frame, let bytes = try? encoded(properties: properties),
            let last = try? decoded(bytes).last, case .header(_, _, .success(let again)) = last
        else { return 1 }
        // NaN is not equal to itself.
        #expect("\(again)" == "\(properties)")
        return 1
    }

    @Test("random bytes neither trap nor decode to anything but errors and frames", arguments: seeds)
    func noise(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<2000 {
            let count = Int.random(in: 0..<200, using: &generator)
            let payload = (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
            _ = try? decoded(payload)
            _ = try? decodedProperties(payload)
            // A header table of noise, with the length it has.
            _ = try? decodedProperties(headers(payload))
            for method in [everyMethod[0], everyMethod[1]] {
                let id = (0..<4).map { UInt8(truncatingIfNeeded: method.id >> (24 - 8 * UInt32($0))) }
                _ = try? decoded(frame(type: 1, channel: 0, payload: id + payload))
            }
        }
    }

    @Test("nesting as deep as a frame has room for is refused", arguments: ["A", "F"])
    func nesting(_ kind: String) throws {
        let letter = Array(kind.utf8)[0]
        let entry: [UInt8] = kind == "A" ? [letter] : [0, letter]
        let step = entry.count + 4
        // Correct in every length, with the innermost empty.
        func nested(_ levels: Int) -> [UInt8] {
            var content: [UInt8] = [0, letter]
            for level in 1...levels {
                if level > 1 { content += entry }
                let rest = UInt32((levels - level) * step)
                content += (0..<4).map { UInt8(truncatingIfNeeded: rest >> (24 - 8 * UInt32($0))) }
            }
            return content
        }
        guard case .success = try decodedProperties(headers(nested(15))) else {
            Issue.record("15 levels within the table are not too deep")
            return
        }
        #expect(try decodedProperties(headers(nested(16))) == .failure(.nestedTooDeeply))
        let content = nested(131_000 / step)
        #expect(try decodedProperties(headers(content)) == .failure(.nestedTooDeeply))

        var start = ByteBuffer()
        start.writeMultipleIntegers(UInt32(0x000A_000A), UInt8(0), UInt8(9), UInt32(content.count))
        start.writeBytes(content)
        start.writeBytes([0, 0, 0, 0, 0, 0, 0, 0])
        #expect(throws: FrameError.malformedMethod(id: 0x000A_000A)) {
            try decoded(frame(type: 1, channel: 0, payload: Array(start.readableBytesView)))
        }
    }

    @Test("more values than a frame of honest ones would have are refused")
    func values() throws {
        let array: [UInt8] = [0, 0x41, 0, 1, 0xF0, 0] + Array(repeating: 0x56, count: 0x1F000)
        #expect(try decodedProperties(headers(array)) == .failure(.tooManyFields))
        let table: [UInt8] = Array(repeating: [0, 0x56], count: 60_000).flatMap(\.self)
        #expect(try decodedProperties(headers(table)) == .failure(.tooManyFields))
    }

    @Test("a length that contradicts another is malformed")
    func lengths() throws {
        let contents: [[UInt8]] = [
            [1, 0x6B, 0x53, 255, 255, 255, 255, 0x61],  // a string longer than the table
            [1, 0x6B, 0x53, 0, 0, 0, 2, 0x61],
            [1, 0x6B, 0x78, 0x7F, 255, 255, 255],
            [1, 0x6B, 0x46, 255, 255, 255, 255],  // a nested table longer than its parent
            [1, 0x6B, 0x46, 0, 0, 0, 1],
            [1, 0x6B, 0x41, 0, 0, 0, 9, 0x56],
            [1, 0x6B, 0x41, 0, 0, 0, 1, 0x74, 1],  // an array that ends within its value
            [1, 0x6B, 0x46, 0, 0, 0, 2, 1, 0x6B, 0x56],  // a table that ends within its entry
            [255, 0x6B],  // a key longer than the table
            [1],
            [1, 0x6B],  // no kind
            [1, 0x6B, 0x6C, 0, 0],  // half an integer
        ]
        for content in contents {
            #expect(try decodedProperties(headers(content)) == .failure(.malformed))
        }
        // The table's own length, one more and one less than its content, and as large as can be.
        let content: [UInt8] = [1, 0x6B, 0x74, 1]
        for length: [UInt8] in [[0, 0, 0, 3], [0, 0, 0, 5], [255, 255, 255, 255], [0x7F, 255, 255, 255]] {
            #expect(try decodedProperties([0x20, 0] + length + content) == .failure(.malformed))
        }
    }

    @Test("only the kinds of fields RabbitMQ has decode, and no other is read")
    func kinds() throws {
        let known = Set("tbBsuIilLfdDSxATFV".utf8)
        for kind in UInt8.min ... .max where !known.contains(kind) {
            for size in [0, 1, 2, 4, 8, 16] {
                let content = [1, 0x6B, kind] + Array(repeating: 0, count: size)
                #expect(try decodedProperties(headers(content)) == .failure(.malformed))
            }
        }
    }

    @Test("flags that AMQP does not define, and further flag words, are refused")
    func flags() throws {
        for flags: [UInt8] in [[0, 1], [0, 2], [0, 3], [0xFF, 0xFF], [0xFF, 0xFD]] {
            #expect(try decodedProperties(flags + Array(repeating: 0, count: 64)) == .failure(.undefinedFlags))
        }
        // Flag words without an end: what makes the C decoder shift too far.
        #expect(try decodedProperties(Array(repeating: 0xFF, count: 64)) == .failure(.undefinedFlags))
        // The reserved cluster-id is defined; it is passed over.
        #expect(try decodedProperties([0, 4, 1, 0x63]) == .success(MessageProperties()))
        #expect(try decodedProperties([0, 0]) == .success(MessageProperties()))
    }

    @Test("a delivery mode that AMQP does not define counts as not given")
    func deliveryMode() throws {
        for mode in UInt8.min ... .max {
            let expected = MessageProperties(deliveryMode: DeliveryMode(rawValue: mode))
            #expect(try decodedProperties([0x10, 0, mode]) == .success(expected))
        }
    }

    @Test("a property or key that is not UTF-8, or has NUL, is kept byte for byte, and sent on as it came")
    func notUTF8() throws {
        let raw: [UInt8] = [0x61, 0xFF, 0, 0xC3, 0xA9, 0xF4, 0x8F, 0xBC, 0x80]
        for bit in [15, 14, 10, 9, 7, 5, 4, 3] {
            let bytes = [UInt8((1 << bit) >> 8), UInt8((1 << bit) & 0xFF), UInt8(raw.count)] + raw
            let properties = try decodedProperties(bytes).get()
            #expect(try sent(properties).dropLast().suffix(bytes.count) == bytes[...], "property \(bit)")
        }
        let keys: [UInt8] = [2, 0xFF, 0, 0x56, 1, 0x6B, 0x46, 0, 0, 0, 3, 1, 0xFE, 0x56]
        let properties = try decodedProperties(headers(keys)).get()
        #expect(properties.headers[ShortString.text(of: [0xFF, 0])] == .void)
        #expect(try sent(properties).dropLast().suffix(headers(keys).count) == headers(keys)[...])
        #expect(
            try decodedProperties(headers([1, 0x6B, 0x53, 0, 0, 0, 1, 0xFF]))
                == .success(MessageProperties(headers: ["k": .bytes([0xFF])]))
        )
        // A delivery's exchange, routing key and consumer tag.
        let deliver: [UInt8] = [0, 60, 0, 60, 2, 0x63, 0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0xFE, 2, 0xFF, 0x6B]
        let frame = frame(type: 1, channel: 7, payload: deliver)
        let delivered = try #require(try decoded(frame).first)
        guard case .method(_, let method) = delivered else { return }
        var buffer = ByteBuffer()
        try FrameEncoder(maximumFrameSize: 4096).encode(method, channel: 7, into: &buffer)
        #expect(Array(buffer.readableBytesView) == frame)
    }

    /// The frames of a message with these properties.
    private func sent(_ properties: MessageProperties) throws(EncodingError) -> [UInt8] {
        var buffer = ByteBuffer()
        try FrameEncoder(maximumFrameSize: 4096).encode(
            .basicPublish(exchange: "", routingKey: "", mandatory: false),
            channel: 7,
            properties: properties,
            body: ByteBuffer(),
            into: &buffer
        )
        return Array(buffer.readableBytesView)
    }

    @Test("text and bytes of a short string are each other's, and different bytes are different texts")
    func shortStrings() {
        var generator = SeededGenerator(seed: 7)
        var texts: [String: [UInt8]] = [:]
        let pieces: [[UInt8]] = [
            [0], [0xFF], [0xC3], [0xA9], [0xC3, 0xA9], [0x61], [0xF4, 0x8F, 0xBF, 0xBF], [0xF4], [0x8F],
        ]
        for _ in 0..<20_000 {
            let bytes = (0..<Int.random(in: 0...6, using: &generator)).flatMap { _ in
                pieces[Int.random(in: 0..<pieces.count, using: &generator)]
            }
            let text = ShortString.text(of: bytes)
            #expect(ShortString.bytes(of: text) == bytes)
            #expect(texts.updateValue(bytes, forKey: text).map { $0 == bytes } ?? true)
        }
        #expect(ShortString.text(of: Array("grüße".utf8)) == "grüße")
        #expect(ShortString.bytes(of: "grüße") == Array("grüße".utf8))
        #expect(ShortString.text(of: [0x61, 0xFF]) == "a\u{10FFFF}")
    }

    @Test("of properties whose headers are refused the others are read all the same")
    func headersRefused() throws {
        var nested: [UInt8] = []
        for _ in 0..<40 {
            nested = [1, 0x6B, 0x46] + withUnsafeBytes(of: UInt32(nested.count).bigEndian, Array.init) + nested
        }
        let many: [UInt8] = Array(repeating: [0, 0x56], count: 9000).flatMap(\.self)
        for content in [nested, many] {
            // Content type, headers, correlation id, reply-to, message id.
            let table = withUnsafeBytes(of: UInt32(content.count).bigEndian, Array.init) + content
            let bytes = [0xA6, 0x80, 1, 0x74] + table + [2, 0x63, 0x31, 1, 0x72, 1, 0x6D]
            guard case .header(_, _, .failure(let refused))? = try decoded(header(properties: bytes)).first else {
                Issue.record("accepted")
                continue
            }
            let expected = MessageProperties(contentType: "t", correlationID: "c1", replyTo: "r", messageID: "m")
            #expect(refused.readable == expected)
        }
        guard case .header(_, _, .failure(let refused))? = try decoded(header(properties: [0, 1])).first else { return }
        #expect(refused == RefusedProperties(reason: .undefinedFlags))
    }

    @Test("a frame larger than negotiated is refused by its header alone")
    func oversized() {
        let cases: [([UInt8], UInt64)] = [
            ([3, 0, 7, 255, 255, 255, 255], UInt64(UInt32.max) + 8), ([3, 0, 7, 0, 0, 0x0F, 0xF9], 4097),
            ([1, 0, 0, 0x80, 0, 0, 0], 0x8000_0008),
        ]
        for (bytes, size) in cases {
            #expect(throws: FrameError.oversized(bytes: size, limit: 4096)) {
                try decoded(bytes, maximumFrameSize: 4096)
            }
        }
        #expect(throws: Never.self) { try decoded([3, 0, 7, 0, 0, 0x0F, 0xF8], maximumFrameSize: 4096) }
    }

    @Test("what is not AMQP 0-9-1 is refused by its first bytes")
    func otherProtocols() {
        #expect(throws: FrameError.unknownType(UInt8(ascii: "H"))) { try decoded(Array("HTTP/1.1 400".utf8)) }
        #expect(throws: FrameError.unknownType(21)) { try decoded([21, 3, 3, 0, 2, 2, 40]) }
        #expect(throws: FrameError.unknownType(0)) { try decoded([0, 0, 0, 0, 0, 0, 0]) }
        #expect(throws: FrameError.unknownType(UInt8(ascii: "A"))) { try decoded(Array("AMAZING!".utf8)) }
        #expect(throws: FrameError.protocolRefused(identifier: 0, major: 0, minor: 9, revision: 1)) {
            try decoded(FrameEncoder.protocolHeader)
        }
        #expect(throws: Never.self) { try decoded(Array(FrameEncoder.protocolHeader.dropLast())) }
    }

    @Test("frames where they do not belong are refused")
    func misplaced() throws {
        #expect(throws: FrameError.missingFrameEnd(found: 0xCD)) { try decoded([8, 0, 0, 0, 0, 0, 0, 0xCD]) }
        #expect(throws: FrameError.malformedHeartbeat) { try decoded(frame(type: 8, channel: 1, payload: [])) }
        #expect(throws: FrameError.malformedHeartbeat) { try decoded(frame(type: 8, channel: 0, payload: [0])) }
        #expect(throws: FrameError.contentOnChannelZero) { try decoded(frame(type: 3, channel: 0, payload: [1])) }
        #expect(throws: FrameError.contentOnChannelZero) {
            try decoded(frame(type: 2, channel: 0, payload: Array(repeating: 0, count: 14)))
        }
        #expect(throws: FrameError.malformedHeader(channel: 7)) {
            try decoded(frame(type: 2, channel: 7, payload: Array(repeating: 0, count: 14)))
        }
        #expect(throws: FrameError.malformedHeader(channel: 7)) {
            try decoded(frame(type: 2, channel: 7, payload: [0, 60, 0, 0, 0]))
        }
        #expect(throws: FrameError.methodOnWrongChannel(id: 0x000A_0032, channel: 3)) {
            try decoded(frame(type: 1, channel: 3, payload: [0, 10, 0, 50, 0, 200, 0, 0, 0, 0, 0]))
        }
        #expect(throws: FrameError.methodOnWrongChannel(id: 0x003C_0050, channel: 0)) {
            try decoded(frame(type: 1, channel: 0, payload: [0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 1, 0]))
        }
    }

    @Test("a method this client has no use for is passed on by its number, its arguments unread")
    func unsupported() throws {
        for (id, channel): (UInt32, UInt16) in [
            (90 << 16 | 11, 7), (30 << 16 | 11, 7), (10 << 16 | 99, 0), (0xFFFF_FFFF, 7),
        ] {
            let bytes = (0..<4).map { UInt8(truncatingIfNeeded: id >> (24 - 8 * UInt32($0))) }
            #expect(
                try decoded(frame(type: 1, channel: channel, payload: bytes + [1, 2, 3]))
                    == [.method(channel: channel, .unsupported(id: id))]
            )
        }
    }

    @Test("a refused message leaves the frames after it as they are")
    func refusedMessage() throws {
        let ack = try encoded(.basicAck(deliveryTag: 1, multiple: false))
        #expect(
            try decoded(header(properties: [0xFF, 0xFF], bodySize: 5) + ack) == [
                .header(channel: 7, bodySize: 5, .failure(RefusedProperties(reason: .undefinedFlags))),
                .method(channel: 7, .basicAck(deliveryTag: 1, multiple: false)),
            ]
        )
    }

    @Test("a small body that is kept does not keep the bytes that arrived with it")
    func bodiesDoNotPin() throws {
        var buffer = ByteBuffer()
        buffer.writeBytes(try encoded(properties: MessageProperties(), body: [1, 2, 3]))
        buffer.writeBytes(try encoded(properties: MessageProperties(), body: Array(repeating: 4, count: 60_000)))
        let decoder = FrameDecoder(maximumFrameSize: 131_072)
        decoder.append(buffer)
        let bodies = try decoder.drain().compactMap { frame in
            if case .body(_, let body) = frame { body } else { nil }
        }
        #expect(bodies.map(\.readableBytes) == [3, 60_000])
        #expect(bodies.first.map(\.storageCapacity).map { $0 < 64 } == true)
    }
}
