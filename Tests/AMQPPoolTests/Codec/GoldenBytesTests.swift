import NIOCore
import Testing

@testable import AMQPPool

@Suite("Frames are the specification's bytes")
struct GoldenBytesTests {
    @Test("the protocol header")
    func protocolHeader() {
        #expect(FrameEncoder.protocolHeader == [0x41, 0x4D, 0x51, 0x50, 0, 0, 9, 1])
    }

    @Test("a heartbeat")
    func heartbeat() throws {
        var buffer = ByteBuffer()
        FrameEncoder(maximumFrameSize: 4096).encodeHeartbeat(into: &buffer)
        let bytes: [UInt8] = [8, 0, 0, 0, 0, 0, 0, 0xCE]
        #expect(Array(buffer.readableBytesView) == bytes)
        #expect(try decoded(bytes) == [.heartbeat])
    }

    @Test("basic.publish with properties, headers and a body")
    func publish() throws {
        let bytes = try encoded(
            .basicPublish(exchange: "rpc", routingKey: "k", mandatory: true),
            properties: MessageProperties(headers: ["a": .string("b")], deliveryMode: .transient, correlationID: "id"),
            body: [1, 2]
        )
        let method: [UInt8] = [
            1, 0, 7, 0, 0, 0, 13, 0, 60, 0, 40, 0, 0, 3, 0x72, 0x70, 0x63, 1, 0x6B, 1, 0xCE,
        ]
        let header: [UInt8] = [
            2, 0, 7, 0, 0, 0, 30, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,  // class, weight, body size
            0x34, 0x00,  // headers, delivery-mode, correlation-id
            0, 0, 0, 8, 1, 0x61, 0x53, 0, 0, 0, 1, 0x62,  // {"a": S"b"}
            1, 2, 0x69, 0x64, 0xCE,
        ]
        let body: [UInt8] = [3, 0, 7, 0, 0, 0, 2, 1, 2, 0xCE]
        #expect(bytes == method + header.replacingSize() + body)
    }

    @Test("connection.tune-ok, basic.ack and queue.declare")
    func methods() throws {
        #expect(
            try encoded(.connectionTuneOK(channelMax: 2047, frameMax: 131_072, heartbeat: 10))
                == [1, 0, 0, 0, 0, 0, 12, 0, 10, 0, 31, 7, 255, 0, 2, 0, 0, 0, 10, 0xCE]
        )
        #expect(
            try encoded(.basicAck(deliveryTag: 258, multiple: true))
                == [1, 0, 7, 0, 0, 0, 13, 0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 1, 2, 1, 0xCE]
        )
        #expect(
            try encoded(.queueDeclare(QueueDeclare(queue: "q", durable: true, autoDelete: true)))
                == [1, 0, 7, 0, 0, 0, 13, 0, 50, 0, 10, 0, 0, 1, 0x71, 0b1010, 0, 0, 0, 0, 0xCE]
        )
    }

    @Test("each kind of field has RabbitMQ's letter")
    func letters() throws {
        let values: [(FieldValue, [UInt8])] = [
            (.bool(true), [0x74, 1]), (.int8(-1), [0x62, 255]), (.uint8(1), [0x42, 1]), (.int16(-2), [0x73, 255, 254]),
            (.uint16(2), [0x75, 0, 2]), (.int32(-1), [0x49, 255, 255, 255, 255]), (.uint32(3), [0x69, 0, 0, 0, 3]),
            (.int64(1), [0x6C, 0, 0, 0, 0, 0, 0, 0, 1]),
            (.uint64(.max), [0x4C, 255, 255, 255, 255, 255, 255, 255, 255]),
            (.float(1), [0x66, 0x3F, 0x80, 0, 0]), (.double(1), [0x64, 0x3F, 0xF0, 0, 0, 0, 0, 0, 0]),
            (.decimal(scale: 2, value: 5), [0x44, 2, 0, 0, 0, 5]), (.string("a"), [0x53, 0, 0, 0, 1, 0x61]),
            (.bytes([9]), [0x78, 0, 0, 0, 1, 9]), (.array([.void]), [0x41, 0, 0, 0, 1, 0x56]),
            (.timestamp(1), [0x54, 0, 0, 0, 0, 0, 0, 0, 1]), (.table([:]), [0x46, 0, 0, 0, 0]), (.void, [0x56]),
        ]
        for (value, bytes) in values {
            let expected = header(properties: headers([1, 0x6B] + bytes))
            let encoded = try encoded(properties: MessageProperties(headers: ["k": value]))
            #expect(Array(encoded.suffix(expected.count)) == expected)
            #expect(
                try decodedProperties(headers([1, 0x6B] + bytes)) == .success(MessageProperties(headers: ["k": value]))
            )
        }
        let small = try encoded(properties: MessageProperties(headers: ["k": .uint64(1)]))
        #expect(try small == encoded(properties: MessageProperties(headers: ["k": .int64(1)])))
    }
}

extension [UInt8] {
    /// This frame with its size field set to what it is.
    fileprivate func replacingSize() -> [UInt8] {
        var frame = self
        frame[6] = UInt8(count - 8)
        return frame
    }
}
