package import AMQPPool

/// Lists, requeues or drops messages that could not be handled: those of a worker's `<queue>.failed`, or of any queue that a dead letter
/// exchange fills.
///
/// Safe to interrupt at any time: a requeued message is published and confirmed before it is removed, so it is never lost, at worst
/// duplicated.
package struct FailedMessages: Sendable {
    /// A failed message.
    package struct Message: Sendable {
        package let delivery: Delivery

        init(_ delivery: Delivery) {
            self.delivery = delivery
        }

        private var headers: FieldTable { delivery.properties.headers }

        /// The last entry of a dead letter exchange.
        private var death: FieldTable? {
            guard case .array(let deaths)? = headers["x-death"], case .table(let death)? = deaths.first else {
                return nil
            }
            return death
        }

        private static func text(_ value: FieldValue?) -> String? {
            if case .string(let text)? = value { text } else { nil }
        }

        package var id: String? { delivery.properties.messageID }
        /// The queue it came from.
        package var queue: String? { headers.text(.failureQueue) ?? Self.text(death?["queue"]) }
        package var reason: String? { headers.text(.failureReason) ?? Self.text(death?["reason"]) }
        package var attempts: Int? { headers[header: .attempts]?.count ?? death?["count"]?.count }
        /// How often it was read or delivered, according to a quorum queue.
        package var deliveries: Int? { headers["x-delivery-count"]?.count }
        /// Seconds since 1970.
        var time: UInt64? {
            for value in [headers[header: .failureTime], death?["time"]] {
                if case .timestamp(let seconds)? = value { return seconds }
            }
            return delivery.properties.timestamp
        }
    }

    /// Which messages.
    package enum Selection: Sendable {
        case all
        case id(String)
        /// Messages that failed at least this many seconds ago. Messages without a known time are not included.
        case olderThan(UInt64)

        func includes(_ message: Message, now: UInt64) -> Bool {
            switch self {
            case .all: true
            case .id(let id): message.id == id
            case .olderThan(let age): message.time.map { $0 <= now && now - $0 >= age } ?? false
            }
        }
    }

    /// Why a message could not be requeued.
    package enum Failure: Error, CustomStringConvertible {
        /// Nothing tells where it came from.
        case unknownQueue(id: String?)

        package var description: String {
            switch self {
            case .unknownQueue(let id):
                "nothing says which queue the message \(id ?? "without an id") came from: name one with --to"
            }
        }
    }

    private let queue: String
    private let pool: AMQPPool

    package init(in queue: String, on pool: AMQPPool) {
        self.queue = queue
        self.pool = pool
    }

    /// The first messages of the queue, which stay there.
    package func list(limit: Int) async throws -> [Message] {
        let seen = Seen()
        _ = try await visit(limit: limit) { message, _ in
            await seen.append(message)
            return false
        }
        return await seen.messages
    }

    private actor Seen {
        var messages: [Message] = []
        func append(_ message: Message) { messages.append(message) }
    }

    /// Requeues messages to where they came from, as new messages. Returns their number.
    ///
    /// - Parameter destination: A queue; `nil` for the one that each came from.
    package func requeue(_ selection: Selection, to destination: String?, limit: Int) async throws -> Int {
        let now = secondsSince1970()
        return try await visit(limit: limit) { message, channel in
            guard selection.includes(message, now: now) else { return false }
            guard let target = destination ?? message.queue else { throw Failure.unknownQueue(id: message.id) }
            try await channel.publish(
                message.delivery.body,
                properties: Self.renewed(message.delivery.properties),
                routingKey: target,
                mandatory: true
            )
            return true
        }
    }

    /// Drops messages. Returns their number.
    package func drop(_ selection: Selection, limit: Int) async throws -> Int {
        let now = secondsSince1970()
        return try await visit(limit: limit) { message, _ in selection.includes(message, now: now) }
    }

    /// The properties without the headers about the failure.
    private static func renewed(_ properties: MessageProperties) -> MessageProperties {
        var properties = properties.forwarded.withoutDeaths
        for header in MessageHeader.allCases { properties.headers[header.rawValue] = nil }
        properties.headers[MessageHeader.oldAttempts] = nil
        return properties
    }

    /// Visits each current message once. Those for which `body` returns `true` are removed; the others stay in place.
    private func visit(
        limit: Int,
        _ body: @Sendable (Message, AMQPChannel) async throws -> Bool
    ) async throws -> Int {
        try await pool.withDedicatedChannel { channel in
            try await channel.selectConfirms()
            let count = try await channel.declareQueue(queue, passive: true).messageCount
            var taken = 0
            var left: [UInt64] = []
            for _ in 0..<min(count, max(0, limit)) {
                guard let delivery = try await channel.get(queue: queue) else { break }
                if try await body(Message(delivery), channel) {
                    channel.acknowledge(delivery.deliveryTag)
                    taken += 1
                } else {
                    left.append(delivery.deliveryTag)
                }
            }
            // Unacknowledged messages are also returned when the channel closes; this way newer brokers do not count that as an attempt.
            for tag in left { channel.giveBack(tag) }
            return taken
        }
    }
}
