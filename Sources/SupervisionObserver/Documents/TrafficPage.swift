/// The page of calls and connections.
package struct TrafficPage: Codable, Sendable, Equatable {
    package struct Call: Codable, Sendable, Equatable {
        package var id: String
        package var destination: String
        package var procedure: String
        /// Seconds.
        package var age: Double
        package var remaining: Double
        package var stage: String
        package var attempts: Int
    }

    package struct Procedure: Codable, Sendable, Equatable {
        package var destination: String
        package var procedure: String
        package var calls: RateSummary
    }

    package struct Caller: Codable, Sendable, Equatable {
        package var id: Int
        package var service: String
        package var state: String
        package var replyQueue: String?
        package var replyConsumers: Int
        package var waiting: Int
        package var sent: Int
        package var maximumInFlight: Int
        package var unmatchedReplies: Int
        package var retries: Int
        package var oldest: [Call]
        package var procedures: [Procedure]
        package var pool: Pool?
    }

    package struct Receiver: Codable, Sendable, Equatable {
        package var id: Int
        package var service: String
        package var state: String
        package var queue: String
        /// The ready messages and consumers of the queue, according to the broker's last answer.
        package var backlog: Int?
        package var consumers: Int?
        package var concurrency: Int
        package var prefetch: Int
        package var running: Int
        package var waiting: Int
        package var zombies: Int
        package var counts: [ProcessPage.Line]
        package var oldest: [Call]
        package var procedures: [Procedure]
        package var pool: Pool?
    }

    package struct Pool: Codable, Sendable, Equatable {
        package var name: String
        package var state: String
        package var waiting: Int
        package var failures: [String]
        package var connections: [Connection]
    }

    package struct Connection: Codable, Sendable, Equatable {
        package var name: String?
        package var endpoint: String
        package var state: String
        package var blockedReason: String?
        package var isAnswering: Bool
        package var channels: [Channel]
    }

    package struct Channel: Codable, Sendable, Equatable {
        package var number: Int
        package var state: String
        package var isConfirming: Bool
        package var unconfirmed: Int
        package var outbox: Int
        package var outboxBytes: Int
        package var waitingPublishers: Int
        package var operations: Int
        package var consumers: Int
        package var prefetch: Int?
    }

    package var callers: [Caller]
    package var receivers: [Receiver]
    package var pools: [Pool]
}
