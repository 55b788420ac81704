/// The page of calls and connections.
package struct TrafficPage: Codable, Sendable, Equatable {
    package struct Call: Codable, Sendable, Equatable {
        var id: String
        package var destination: String
        package var procedure: String
        /// Seconds.
        package var age: Double
        package var remaining: Double
        package var stage: String
        var attempts: Int
    }

    package struct Procedure: Codable, Sendable, Equatable {
        package var destination: String
        package var procedure: String
        package var calls: RateSummary
    }

    package struct Caller: Codable, Sendable, Equatable {
        var id: Int
        package var service: String
        package var state: String
        var replyQueue: String?
        var replyConsumers: Int
        package var waiting: Int
        package var sent: Int
        var maximumInFlight: Int
        package var unmatchedReplies: Int
        package var retries: Int
        package var oldest: [Call]
        package var procedures: [Procedure]
        var pool: Pool?
    }

    package struct Receiver: Codable, Sendable, Equatable {
        var id: Int
        package var service: String
        package var state: String
        package var queue: String
        /// The ready messages and consumers of the queue, according to the broker's last answer.
        package var backlog: Int?
        package var consumers: Int?
        package var concurrency: Int
        var prefetch: Int
        package var running: Int
        package var waiting: Int
        package var zombies: Int
        var counts: [ProcessPage.Line]
        package var oldest: [Call]
        package var procedures: [Procedure]
        var pool: Pool?
    }

    struct Pool: Codable, Sendable, Equatable {
        var name: String
        var state: String
        var waiting: Int
        var failures: [String]
        var connections: [Connection]
    }

    struct Connection: Codable, Sendable, Equatable {
        var name: String?
        var endpoint: String
        var state: String
        var blockedReason: String?
        var isAnswering: Bool
        var channels: [Channel]
    }

    struct Channel: Codable, Sendable, Equatable {
        var number: Int
        var state: String
        var isConfirming: Bool
        var unconfirmed: Int
        var outbox: Int
        var outboxBytes: Int
        var waitingPublishers: Int
        var operations: Int
        var consumers: Int
        var prefetch: Int?
    }

    package var callers: [Caller]
    package var receivers: [Receiver]
    var pools: [Pool]
}
