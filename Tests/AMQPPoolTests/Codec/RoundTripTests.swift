import NIOCore
import Testing

@testable import AMQPPool

@Suite("What is encoded decodes to the same")
struct RoundTripTests {
    @Test("a method with all of its arguments", arguments: everyMethod)
    func method(_ method: Method) throws {
        let frames = try decoded(encoded(method))
        #expect(frames == [.method(channel: method.someChannel, method)])
    }

    @Test("every method the client knows is among those tested")
    func everyMethodIsTested() {
        #expect(Set(everyMethod.map(\.id)).count == 57)
    }

    @Test("every combination of properties")
    func properties() throws {
        for flags in 0..<(1 << 13) {
            func when<Value>(_ bit: Int, _ value: Value?) -> Value? { flags & (1 << bit) == 0 ? nil : value }
            let properties = MessageProperties(
                contentType: when(0, "text/plain"),
                contentEncoding: when(1, "utf-8"),
                headers: when(2, ["k": .string("v")]) ?? [:],
                deliveryMode: when(3, .transient),
                priority: when(4, 0),
                correlationID: when(5, ""),
                replyTo: when(6, "r"),
                expiration: when(7, "0"),
                messageID: when(8, "m"),
                timestamp: when(9, 0),
                type: when(10, "t"),
                userID: when(11, "u"),
                appID: when(12, "a")
            )
            let frames = try decoded(encoded(properties: properties))
            #expect(frames.last == .header(channel: 7, bodySize: 0, .success(properties)))
        }
    }

    @Test("every kind of field, nested")
    func fields() throws {
        let frames = try decoded(encoded(properties: everyProperty))
        #expect(frames.last == .header(channel: 7, bodySize: 0, .success(everyProperty)))
    }

    @Test("a table keeps its order and its repeated keys")
    func order() throws {
        let table = FieldTable(entries: [
            .init(key: "b", value: .int8(1)), .init(key: "a", value: .int8(2)), .init(key: "b", value: .int8(3)),
        ])
        let frames = try decoded(encoded(properties: MessageProperties(headers: table)))
        #expect(frames.last == .header(channel: 7, bodySize: 0, .success(MessageProperties(headers: table))))
    }

    @Test("frames arrive whole, however the bytes are cut")
    func pieces() throws {
        var bytes: [UInt8] = []
        for method in everyMethod { bytes += try encoded(method) }
        bytes += try encoded(properties: everyProperty, body: Array(repeating: 42, count: 300))
        let whole = try decoded(bytes)
        for size in [1, 2, 3, 7, 8, 9, 100, 1000] {
            let decoder = FrameDecoder(maximumFrameSize: 131_072)
            var frames: [Frame] = []
            for start in stride(from: 0, to: bytes.count, by: size) {
                decoder.append(ByteBuffer(bytes: bytes[start..<min(start + size, bytes.count)]))
                frames += try decoder.drain()
            }
            #expect(frames == whole)
        }
    }

    @Test("one encoder and one decoder serve many frames")
    func reuse() throws {
        let encoder = FrameEncoder(maximumFrameSize: 131_072)
        let decoder = FrameDecoder(maximumFrameSize: 131_072)
        for round in 0..<200 {
            var properties = everyProperty
            properties.headers["round"] = .array(Array(repeating: .int64(Int64(round)), count: round * 10))
            var buffer = ByteBuffer()
            try encoder.encode(
                .basicPublish(exchange: "e", routingKey: "k", mandatory: true),
                channel: 1,
                properties: properties,
                body: ByteBuffer(),
                into: &buffer
            )
            decoder.append(buffer)
            #expect(try decoder.drain().last == .header(channel: 1, bodySize: 0, .success(properties)))
        }
    }
}
