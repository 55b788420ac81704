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
    ///
    /// - Parameter timeout: How long nothing may come closer to it. As long as messages become fewer, it waits for up to 15 times as long.
    package func becomes(
        _ expected: [String],
        replyQueue: @Sendable () throws -> String? = { nil },
        within timeout: Duration = .seconds(60)
    ) async throws {
        var patience = DrainPatience(timeout, from: .now)
        var seen: [String] = []
        repeat {
            do {
                let (lines, messages) = try await look(replyQueue: try replyQueue())
                seen = lines
                patience.saw(messages, at: .now)
            } catch let error as LocalBrokerError {
                // Channels and connections may go while they are listed.
                seen = ["\(error)"]
            }
            if seen == expected { return }
            try await Task.sleep(for: .milliseconds(20))
        } while !patience.isOver(at: .now)
        throw Chaos.Invariant.Violation("the broker has \(seen), and not \(expected)")
    }

    /// The same for the last line, of connections and channels.
    package func becomes(_ last: String, within timeout: Duration = .seconds(60)) async throws {
        let deadline = ContinuousClock.now + timeout
        var seen: String?
        repeat {
            seen = try? await look(replyQueue: nil).lines.last
            if seen == last { return }
            try await Task.sleep(for: .milliseconds(20))
        } while ContinuousClock.now < deadline
        throw Chaos.Invariant.Violation("the broker has \(seen ?? "gone"), and not \(last)")
    }

    /// What it has, in lines, and how many messages are in its queues.
    func look(replyQueue: String?) async throws -> (lines: [String], messages: Int) {
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
        return (lines, queues.reduce(0) { $0 + $1.messages })
    }
}

/// How long to wait for queues to be emptied: a time in which there is no progress, and a multiple of it in all.
package struct DrainPatience: Sendable {
    private let timeout: Duration
    private let end: ContinuousClock.Instant
    private var deadline: ContinuousClock.Instant
    private var fewest: Int?

    package init(_ timeout: Duration, from start: ContinuousClock.Instant) {
        self.timeout = timeout
        deadline = start + timeout
        end = start + timeout * 15
    }

    package mutating func saw(_ messages: Int, at now: ContinuousClock.Instant) {
        defer { fewest = min(fewest ?? messages, messages) }
        if let fewest, messages < fewest { deadline = min(now + timeout, end) }
    }

    package func isOver(at now: ContinuousClock.Instant) -> Bool { now >= deadline }
}
