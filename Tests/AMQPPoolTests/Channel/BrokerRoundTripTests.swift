import BrokerSupport
import LocalBroker
import NIOCore
import Testing

@testable import AMQPPool

@Suite("Through a real broker")
struct BrokerRoundTripTests {
    @Test("Every property, and a header of every kind, arrives as it was sent, by delivery and by get")
    func properties() async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            var properties = everyProperty
            for entry in everyKind.entries {
                properties.headers = FieldTable(entries: [entry])
                try await channel.publish(ByteBuffer(), properties: properties, routingKey: "q", mandatory: true)
                let got = try #require(try await channel.get(queue: "q", noAck: true))
                properties.headers = FieldTable(entries: [try await delivered(entry)])
                #expect(got.properties == properties, "\(entry)")
            }
            let deliveries = Recorder<Delivery>()
            _ = try await channel.consume(queue: "q", noAck: true, onDelivery: { deliveries.append($0) })
            properties.headers = everyKind
            try await channel.publish(ByteBuffer(), properties: properties, routingKey: "q", mandatory: true)
            let arrived = try await deliveries.wait(for: 1)[0].properties
            var entries: [FieldTable.Entry] = []
            for entry in everyKind.entries { entries.append(try await delivered(entry)) }
            // A table has no order, and RabbitMQ 4.0 and later sort it.
            #expect(arrived.headers.entries.sorted { $0.key < $1.key } == entries.sorted { $0.key < $1.key })
            properties.headers = arrived.headers
            #expect(arrived == properties)
        }
    }

    /// What becomes of a header on its way: RabbitMQ 4.0 and later hand unsigned 64-bit integers on as signed ones.
    private func delivered(_ entry: FieldTable.Entry) async throws -> FieldTable.Entry {
        guard case .uint64(let value) = entry.value, try await TestBroker.version() >= BrokerVersion(4, 0) else {
            return entry
        }
        return FieldTable.Entry(key: entry.key, value: .int64(Int64(bitPattern: value)))
    }

    @Test("Ids and header names that are not UTF-8, or have NUL, go through as they are, also as a reply's")
    func notUTF8() async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            let queue = try await channel.declareQueue("", exclusive: true).name
            let raw = ShortString.text(of: [0xFF, 0, 0x61, 0xC3])
            var properties = MessageProperties(correlationID: raw, replyTo: raw, messageID: raw, type: raw)
            properties.headers[raw] = .table([raw: true])
            for _ in 0..<2 {
                try await channel.publish(ByteBuffer(), properties: properties, routingKey: queue, mandatory: true)
                let got = try #require(try await channel.get(queue: queue, noAck: true))
                #expect(got.properties == properties)
                #expect(ShortString.bytes(of: got.properties.messageID ?? "") == [0xFF, 0, 0x61, 0xC3])
                properties = got.properties
            }
            // Routing keys too: a reply goes to whatever queue the request names.
            let error = await failure { () async throws(AMQPError) in
                try await channel.publish(ByteBuffer(), routingKey: raw, mandatory: true)
            }
            guard case .returned(_, _, _, raw) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
    }

    @Test(
        "A number that the broker cannot read is refused here: it would close the connection",
        arguments: [.double(.infinity), .double(-.infinity), .double(.nan), .float(.infinity), .float(.nan)]
            as [FieldValue]
    )
    func notFinite(_ value: FieldValue) async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            let error = await failure { () async throws(AMQPError) in
                try await channel.publish(
                    ByteBuffer(),
                    properties: MessageProperties(headers: ["n": .array([.table(["deep": value])])]),
                    routingKey: "nowhere"
                )
            }
            guard case .notSent(.unencodable(.notFinite)) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            try await channel.publish(ByteBuffer(), routingKey: "nowhere")
        }
    }

    @Test("A body of 16 MiB arrives whole; one byte more is refused here, and the connection stays")
    func largest() async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            let limit = ConnectionConfiguration().maximumMessageSize
            #expect(limit == 16 * 1024 * 1024)
            let error = await failure { () async throws(AMQPError) in
                try await channel.publish(ByteBuffer(repeating: 1, count: limit + 1), routingKey: "q")
            }
            guard case .notSent(.messageTooLarge(limit + 1, limit)) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            var body = ByteBuffer(repeating: 1, count: limit)
            body.setInteger(UInt64(0x0123_4567_89AB_CDEF), at: limit - 8)
            try await channel.publish(body, routingKey: "q", mandatory: true, timeout: .seconds(60))
            #expect(try await channel.get(queue: "q", noAck: true, timeout: .seconds(60))?.body == body)
        }
    }
}
