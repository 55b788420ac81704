import AMQPPool
import Synchronization

/// Reply queues that were given up and may still be on the broker.
///
/// Mostly the broker has deleted them with their last consumer. Two kinds it has not: one that was declared and never consumed,
/// because its channel died in between, and one that a restart of the broker brought back. `x-expires` ends both after a
/// while; the next channel that is opened ends them at once.
final class AbandonedQueues: Sendable {
    /// More are left to `x-expires`.
    private static let limit = 100

    private let names = Mutex<[String]>([])

    /// The queue of this name is given up.
    func add(_ name: String) {
        names.withLock { names in
            if names.count == Self.limit { names.removeFirst() }
            names.append(name)
        }
    }

    /// Deletes what was given up, on a channel of its own: what the broker says to that must not end another. What it refuses to
    /// delete is left to `x-expires`; what it could not be asked is left to the next channel.
    func delete(on connection: AMQPConnection) async {
        while let name = names.withLock({ $0.popLast() }) {
            guard let channel = try? await connection.openChannel() else { return add(name) }
            var isAnswered = true
            do throws(AMQPError) {
                try await channel.deleteQueue(name)
            } catch {
                if case .channelClosedByBroker = error.cause {} else { isAnswered = false }
            }
            await channel.close()
            guard isAnswered else { return add(name) }
        }
    }
}
