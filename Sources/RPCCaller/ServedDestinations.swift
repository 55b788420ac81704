import AMQPPool
import RPCWire
import Synchronization

/// A cache of which services have a consumer, according to the broker within the last second.
final class ServedDestinations: Sendable {
    private struct Look {
        let time: CompactInstant
        let look: Task<Bool, Never>
    }

    /// How long an answer is valid.
    private static let age: Duration = .seconds(1)
    /// The maximum number of cached destinations.
    private static let limit = 1000

    private let looks = Mutex<[String: Look]>([:])

    /// Whether the service's queue exists without a consumer. Concurrent callers share one request.
    ///
    /// - Parameter consumers: Asks the broker; `nil` if it does not know.
    func isUnserved(
        _ destination: String,
        before deadline: CompactInstant,
        consumers: @escaping @Sendable (_ timeout: Duration) async -> Int?
    ) async -> Bool {
        let now = CompactInstant.now
        let known = looks.withLock { looks in
            looks[destination].flatMap { $0.time.duration(to: now) < Self.age ? $0.look : nil }
        }
        if let known { return await known.value }
        let timeout = min(now.duration(to: deadline), .seconds(1))
        let look = Task.detached { await consumers(timeout) == 0 }
        let shared = looks.withLock { looks -> Task<Bool, Never> in
            if let other = looks[destination], other.time.duration(to: now) < Self.age { return other.look }
            if looks.count >= Self.limit { looks = looks.filter { $0.value.time.duration(to: now) < Self.age } }
            if looks.count < Self.limit { looks[destination] = Look(time: now, look: look) }
            return look
        }
        return await shared.value
    }
}

extension CallTable {
    /// Whether a service's queue exists without a consumer.
    func isUnserved(_ destination: String, before deadline: CompactInstant) async -> Bool {
        await served.isUnserved(destination, before: deadline) { [registry, settings] timeout in
            // Not connected: the call itself will fail with that.
            guard let connection = registry.pick()?.connection,
                let channel = try? await connection.openChannel(timeout: timeout)
            else { return nil }
            let queue = settings.names.requestQueue(of: destination)
            // The name is only this caller's assumption: a missing queue means nothing.
            let answer = try? await channel.declareQueue(queue, passive: true, timeout: timeout)
            await channel.close()
            return answer?.consumerCount
        }
    }
}
