public import LocalBroker
public import SupervisionTesting

/// Faults of a whole broker. Use a dedicated broker for them, because they affect all of its clients.
///
/// A fault does nothing while another fault holds the broker (for example, to pause it while it restarts).
extension Chaos.Fault {
    /// All faults that keep the broker's stored data, named `broker-paused` and so on: ``brokerWiped(_:)`` is not included.
    ///
    /// - Parameters:
    ///   - broker: A dedicated broker.
    ///   - duration: The length of faults that last for a while.
    public static func broker(_ broker: LocalBroker, for duration: Duration = .seconds(1)) -> [Chaos.Fault] {
        [
            brokerPaused(broker, for: duration), brokerKilled(broker), brokerRestarted(broker),
            memoryAlarm(broker, for: duration),
        ]
    }

    /// The broker is frozen for a while, with its sockets open: `broker-paused`.
    public static func brokerPaused(_ broker: LocalBroker, for duration: Duration = .seconds(1)) -> Chaos.Fault {
        Chaos.Fault("broker-paused") { _ in
            try await ifThere { () async throws(LocalBrokerError) in try await broker.pause() }
            await pass(duration)
            try await ifThere { () async throws(LocalBrokerError) in try await broker.resume() }
        }
    }

    /// The broker is killed by `kill -9`, and started again with the data written by then: `broker-killed`.
    ///
    /// - Parameters:
    ///   - broker: A dedicated broker.
    ///   - duration: How long it is down, in addition to the seconds that its start takes.
    public static func brokerKilled(_ broker: LocalBroker, for duration: Duration = .zero) -> Chaos.Fault {
        Chaos.Fault("broker-killed") { _ in
            try await ifThere { () async throws(LocalBrokerError) in try await broker.kill() }
            await pass(duration)
            try await ifThere { () async throws(LocalBrokerError) in try await broker.startAgain() }
        }
    }

    /// The broker is stopped as by an operator, and started again: `broker-restarted`.
    public static func brokerRestarted(_ broker: LocalBroker) -> Chaos.Fault {
        Chaos.Fault("broker-restarted") { _ in
            await broker.stop()
            try await ifThere { () async throws(LocalBrokerError) in try await broker.startAgain() }
        }
    }

    /// The broker is killed and started again empty, without queues, exchanges, messages and virtual hosts: `broker-wiped`.
    public static func brokerWiped(_ broker: LocalBroker) -> Chaos.Fault {
        Chaos.Fault("broker-wiped") { _ in
            try await ifThere { () async throws(LocalBrokerError) in try await broker.wipe() }
        }
    }

    /// The broker has a memory alarm for a while, and blocks publishers: `memory-alarm`.
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
    ///   - cluster: A dedicated cluster.
    ///   - queue: The name of a queue whose home or leader is killed; with `nil`, or if there is no such queue, the next node in turn.
    ///   - duration: How long it is down, in addition to the seconds that its start takes.
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

/// Runs `body` on something that may be gone by now, or that another fault is changing.
func ifThere(_ body: () async throws(LocalBrokerError) -> Void) async throws(LocalBrokerError) {
    do {
        try await body()
    } catch {
        switch error {
        case .notRunning, .alreadyRunning, .requestFailed, .requestTimedOut: return
        case .notInstalled, .invalidOption, .cannotPrepare, .cannotSpawn, .portInUse, .startFailed, .startTimedOut,
            .endedUnexpectedly, .shutDown, .cancelled:
            throw error
        }
    }
}
