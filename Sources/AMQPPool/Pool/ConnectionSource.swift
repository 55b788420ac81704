internal import ConcurrencyPrimitives

/// Where the connections of a pool's subtree come from.
package enum ConnectionSource: Sendable {
    /// They are opened and closed here. Others may lease them.
    case own(ConnectionLeases? = nil)
    /// They belong to another pool of this process, which has as many. A process that leases one opens its own channels on it, ends when
    /// the connection is lost, and never closes it.
    case leased(ConnectionLeases)
}

/// The open connections of a pool by number, over all incarnations of its processes.
package final class ConnectionLeases: Sendable {
    private let connections: [CurrentIncarnation<AMQPConnection>]

    init(count: Int) {
        // The waiters are processes of this program's trees, one per connection.
        connections = (0..<max(1, count)).map { _ in CurrentIncarnation(limit: .max) }
    }

    /// The connection with this number is open.
    func opened(_ connection: AMQPConnection, number: Int) {
        guard let current = current(number) else { return }
        current.set(connection)
        connection.onClosed { [weak connection] _ in
            if let connection { current.clear(connection) }
        }
    }

    /// Waits for the connection with this number to be open.
    ///
    /// - Throws: `CancellationError`.
    func lease(number: Int) async throws -> AMQPConnection {
        guard let current = current(number) else {
            throw AMQPError.invalidArgument("the pool has no connection \(number)")
        }
        var ended: AMQPConnection?
        while true {
            do throws(CurrentIncarnation<AMQPConnection>.Absence) {
                let connection = try await current.value(otherThan: ended, before: .now + .seconds(3600))
                if !connection.isEnding { return connection }
                ended = connection
            } catch {
                switch error {
                case .deadline: ended = nil
                case .cancelled, .ended, .overloaded: throw CancellationError()
                }
            }
        }
    }

    private func current(_ number: Int) -> CurrentIncarnation<AMQPConnection>? {
        connections.indices.contains(number - 1) ? connections[number - 1] : nil
    }
}
