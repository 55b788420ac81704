internal import ConcurrencyPrimitives

/// Serializes declarations of the same queue within this process.
///
/// RabbitMQ closes the connection (541) of one of two clients that create the same quorum queue at the same moment, which the connections
/// of a pool would do at the first start. The wait is bounded: a declaration proceeds when its predecessor takes too long.
enum QueueDeclarations {
    private struct Queue: Hashable {
        var virtualHost: String
        var name: String
    }

    static let longestWait = Duration.seconds(5)

    private static let underway = Monitor<Set<Queue>>([])

    /// Runs `declare` when no other declaration of this queue is running.
    nonisolated(nonsending) static func inTurn<Reply>(
        _ name: String,
        virtualHost: String,
        longestWait: Duration = longestWait,
        _ declare: nonisolated(nonsending) () async throws(AMQPError) -> Reply
    ) async throws(AMQPError) -> Reply {
        let queue = Queue(virtualHost: virtualHost, name: name)
        var isOurs = true
        do throws(WaitFailure) {
            try await underway.wait(before: .now + longestWait) { $0.insert(queue).inserted ? () : nil }
        } catch {
            switch error {
            case .cancelled: throw .cancelled(operation: "queue.declare")
            case .deadline, .full: isOurs = false
            }
        }
        defer { if isOurs { underway.change { _ = $0.remove(queue) } } }
        return try await declare()
    }
}
