public import LocalBroker
public import SupervisionTesting
import Synchronization

/// Faults that administrators, other clients and the broker itself cause to single connections, channels and queues of one virtual host.
///
/// Candidates are chosen in turn. If there is none, nothing happens.
extension Chaos.Fault {
    /// All of these faults, named `connection-closed` and so on.
    public static func administration(_ broker: LocalBroker, virtualHost: String = "/") -> [Chaos.Fault] {
        [
            connectionClosed(broker, virtualHost: virtualHost), connectionDropped(broker, virtualHost: virtualHost),
            channelClosed(broker, virtualHost: virtualHost), queueDeleted(broker, virtualHost: virtualHost),
        ]
    }

    /// An administrator closes a connection; the client receives a connection.close with code 320: `connection-closed`.
    public static func connectionClosed(
        _ broker: LocalBroker,
        virtualHost: String = "/",
        where isCandidate: @escaping @Sendable (ConnectionInfo) -> Bool = { _ in true }
    ) -> Chaos.Fault {
        let turn = Turn()
        return Chaos.Fault("connection-closed") { _ in
            try await ifThere { () async throws(LocalBrokerError) in
                let all = try await broker.connections(virtualHost: virtualHost).filter(isCandidate).map(\.name)
                if let name = turn.next(of: all.sorted()) { try await broker.closeConnection(name) }
            }
        }
    }

    /// The broker drops a TCP connection without a closing handshake: `connection-dropped`.
    public static func connectionDropped(
        _ broker: LocalBroker,
        virtualHost: String = "/",
        where isCandidate: @escaping @Sendable (ConnectionInfo) -> Bool = { _ in true }
    ) -> Chaos.Fault {
        let turn = Turn()
        return Chaos.Fault("connection-dropped") { _ in
            try await ifThere { () async throws(LocalBrokerError) in
                let all = try await broker.connections(virtualHost: virtualHost).filter(isCandidate).map(\.name)
                if let name = turn.next(of: all.sorted()) { try await broker.dropConnection(name) }
            }
        }
    }

    /// The broker closes a channel because of an error, with code 406: `channel-closed`.
    public static func channelClosed(
        _ broker: LocalBroker,
        virtualHost: String = "/",
        where isCandidate: @escaping @Sendable (ChannelInfo) -> Bool = { _ in true }
    ) -> Chaos.Fault {
        let turn = Turn()
        return Chaos.Fault("channel-closed") { _ in
            try await ifThere { () async throws(LocalBrokerError) in
                let all = try await broker.channels(virtualHost: virtualHost).filter(isCandidate)
                    .sorted { ($0.connection, $0.number) < ($1.connection, $1.number) }
                if let channel = turn.next(of: all) {
                    try await broker.closeChannel(channel.number, of: channel.connection)
                }
            }
        }
    }

    /// A queue is deleted, including its messages: `queue-deleted`.
    public static func queueDeleted(
        _ broker: LocalBroker,
        virtualHost: String = "/",
        where isCandidate: @escaping @Sendable (QueueInfo) -> Bool = { _ in true }
    ) -> Chaos.Fault {
        let turn = Turn()
        return Chaos.Fault("queue-deleted") { _ in
            try await ifThere { () async throws(LocalBrokerError) in
                let all = try await broker.queues(virtualHost: virtualHost).filter(isCandidate).map(\.name)
                if let name = turn.next(of: all.sorted()) {
                    try await broker.deleteQueue(name, virtualHost: virtualHost)
                }
            }
        }
    }
}

/// Chooses candidates in turn.
final class Turn: Sendable {
    private let count = Atomic(0)

    func next(of candidates: Int) -> Int? {
        guard candidates > 0 else { return nil }
        return (count.add(1, ordering: .relaxed).newValue - 1) % candidates
    }

    func next<Candidate>(of candidates: [Candidate]) -> Candidate? {
        next(of: candidates.count).map { candidates[$0] }
    }
}
