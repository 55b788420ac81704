import AMQPPool
import Synchronization

/// Abandoned reply queues that may still exist on the broker.
///
/// The broker usually deletes a reply queue with its last consumer. It does not in two cases: a queue that was declared but never consumed,
/// because its channel ended in between, and a queue restored by a restart of the broker. `x-expires` deletes both after a while; the next
/// channel that is opened deletes them immediately.
final class AbandonedQueues: Sendable {
    /// Queues beyond the limit are left to `x-expires`.
    private static let limit = 100

    private let names = Mutex<[String]>([])

    /// Adds an abandoned queue.
    func add(_ name: String) {
        names.withLock { names in
            if names.count == Self.limit { names.removeFirst() }
            names.append(name)
        }
    }

    /// Deletes the abandoned queues on a separate channel, because the broker may close it in answer. A queue that the broker refuses to
    /// delete is left to `x-expires`; a queue that could not be deleted for lack of a connection is left to the next channel.
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
