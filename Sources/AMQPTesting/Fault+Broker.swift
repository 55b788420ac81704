public import LocalBroker
public import SupervisionTesting

/// What happens to a broker. Give these a broker of their own: all of its clients notice.
///
/// A fault that finds the broker in the hands of another one (to be paused while it restarts) does nothing.
extension Chaos.Fault {
    /// All that leaves the broker with what it stored, named `broker-paused` and so on: ``brokerWiped(_:)`` is not among them.
    ///
    /// - Parameters:
    ///   - broker: A broker of the test's own.
    ///   - duration: How long those last that last for a while.
    public static func broker(_ broker: LocalBroker, for duration: Duration = .seconds(1)) -> [Chaos.Fault] {
        [
            brokerPaused(broker, for: duration), brokerKilled(broker), brokerRestarted(broker),
            memoryAlarm(broker, for: duration),
        ]
    }

    /// The broker is frozen for a while, its sockets stay open: `broker-paused`.
    public static func brokerPaused(_ broker: LocalBroker, for duration: Duration = .seconds(1)) -> Chaos.Fault {
        Chaos.Fault("broker-paused") { _ in
            try await ifThere { () async throws(LocalBrokerError) in try await broker.pause() }
            await pass(duration)
            try await ifThere { () async throws(LocalBrokerError) in try await broker.resume() }
        }
    }

    /// `kill -9`, and a start with what had been written by then: `broker-killed`.
    ///
    /// - Parameters:
    ///   - broker: A broker of the test's own.
    ///   - duration: How long it is away, in addition to the seconds that its start takes.
    public static func brokerKilled(_ broker: LocalBroker, for duration: Duration = .zero) -> Chaos.Fault {
        Chaos.Fault("broker-killed") { _ in
            try await ifThere { () async throws(LocalBrokerError) in try await broker.kill() }
            await pass(duration)
            try await ifThere { () async throws(LocalBrokerError) in try await broker.startAgain() }
        }
    }

    /// It stops as an operator would stop it, and starts again: `broker-restarted`.
    public static func brokerRestarted(_ broker: LocalBroker) -> Chaos.Fault {
        Chaos.Fault("broker-restarted") { _ in
            await broker.stop()
            try await ifThere { () async throws(LocalBrokerError) in try await broker.startAgain() }
        }
    }

    /// It is killed and comes back empty, without queues, exchanges, messages and virtual hosts: `broker-wiped`.
    public static func brokerWiped(_ broker: LocalBroker) -> Chaos.Fault {
        Chaos.Fault("broker-wiped") { _ in
            try await ifThere { () async throws(LocalBrokerError) in try await broker.wipe() }
        }
    }

    /// It has no memory left for a while, and blocks whoever publishes: `memory-alarm`.
    public static func memoryAlarm(_ broker: LocalBroker, for duration: Duration = .seconds(1)) -> Chaos.Fault {
        Chaos.Fault("memory-alarm") { _ in
            try await ifThere { () async throws(LocalBrokerError) in try await broker.setMemoryAlarm(true) }
            await pass(duration)
            try await ifThere { () async throws(LocalBrokerError) in try await broker.setMemoryAlarm(false) }
        }
    }

    /// A node of a cluster is killed and started again, each time the next one: `node-killed`.
    ///
    /// - Parameters:
    ///   - cluster: A cluster of the test's own.
    ///   - queue: The name of a queue whose home, or leader, it shall be; with nil, or without such a queue, it is the next in
    ///     turn.
    ///   - duration: How long it is away, in addition to the seconds that its start takes.
    public static func nodeKilled(
        _ cluster: LocalBrokerCluster,
        holding queue: @escaping @Sendable () -> String? = { nil },
        for duration: Duration = .zero
    ) -> Chaos.Fault {
        let turn = Turn()
        return Chaos.Fault("node-killed") { _ in
            var victim = turn.next(of: cluster.nodes.count) ?? 0
            if let queue = queue(), let home = try await cluster.place(of: queue)?.leader { victim = home }
            try await ifThere { () async throws(LocalBrokerError) in try await cluster.nodes[victim].kill() }
            await pass(duration)
            try await ifThere { () async throws(LocalBrokerError) in try await cluster.startAgain() }
        }
    }
}

/// Does something to what may be gone by now, or be changed by another fault at this moment.
func ifThere(_ body: () async throws(LocalBrokerError) -> Void) async throws(LocalBrokerError) {
    do {
        try await body()
    } catch {
        switch error {
        case .notRunning, .alreadyRunning, .requestFailed, .requestTimedOut: return
        default: throw error
        }
    }
}
