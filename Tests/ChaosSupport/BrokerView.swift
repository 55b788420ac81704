import LocalBroker
import SupervisionTesting

/// What the broker has in a virtual host, in lines that can be compared.
package struct BrokerView: Sendable {
    package let broker: LocalBroker
    package let virtualHost: String

    package init(_ broker: LocalBroker, _ virtualHost: String) {
        (self.broker, self.virtualHost) = (broker, virtualHost)
    }

    /// Waits until it has exactly this. The broker tells nobody by itself, so it is asked again and again.
    package func becomes(
        _ expected: [String],
        replyQueue: @Sendable () throws -> String? = { nil },
        within timeout: Duration = .seconds(60)
    ) async throws {
        let deadline = ContinuousClock.now + timeout
        var seen: [String] = []
        repeat {
            do {
                seen = try await lines(replyQueue: try replyQueue())
            } catch let error as LocalBrokerError {
                // Channels and connections may go while they are listed.
                seen = ["\(error)"]
            }
            if seen == expected { return }
            try await Task.sleep(for: .milliseconds(20))
        } while ContinuousClock.now < deadline
        throw Chaos.Invariant.Violation("the broker has \(seen), and not \(expected)")
    }

    /// The same for the last line, of connections and channels.
    package func becomes(_ last: String, within timeout: Duration = .seconds(60)) async throws {
        let deadline = ContinuousClock.now + timeout
        var seen: String?
        repeat {
            seen = try? await lines(replyQueue: nil).last
            if seen == last { return }
            try await Task.sleep(for: .milliseconds(20))
        } while ContinuousClock.now < deadline
        throw Chaos.Invariant.Violation("the broker has \(seen ?? "gone"), and not \(last)")
    }

    package func lines(replyQueue: String?) async throws -> [String] {
        let queues = try await broker.queues(virtualHost: virtualHost)
        let channels = try await broker.channels(virtualHost: virtualHost)
        let connections = try await broker.connections(virtualHost: virtualHost)
        var lines = queues.map { queue in
            let name = queue.name == replyQueue ? "reply queue" : queue.name
            return "\(name): \(queue.consumers) consumers, \(queue.messages) messages"
        }
        lines.sort()
        lines.append("\(connections.count) connections, \(channels.count) channels")
        let unacknowledged = channels.reduce(0) { $0 + $1.unacknowledged }
        let unconfirmed = channels.reduce(0) { $0 + $1.unconfirmed }
        if unacknowledged + unconfirmed > 0 {
            lines.append("\(unacknowledged) unacknowledged, \(unconfirmed) unconfirmed")
        }
        return lines
    }
}
