import AMQPPool
import RPCWire
import Synchronization

/// Who is served at present, as the broker said within the last second.
final class ServedDestinations: Sendable {
    private struct Look {
        let time: CompactInstant
        let look: Task<Bool, Never>
    }

    /// How long an answer is believed.
    private static let age: Duration = .seconds(1)
    /// How many destinations are remembered.
    private static let limit = 1000

    private let looks = Mutex<[String: Look]>([:])

    /// Whether the service's queue exists and nobody consumes it. Those who ask at the same time ask once.
    ///
    /// - Parameter consumers: asks the broker; `nil` where it does not know.
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
    /// Whether a service's queue exists and nobody consumes it.
    func isUnserved(_ destination: String, before deadline: CompactInstant) async -> Bool {
        await served.isUnserved(destination, before: deadline) { [registry, settings] timeout in
            // Not connected: that is what the call will be told.
            guard let connection = registry.pick()?.connection,
                let channel = try? await connection.openChannel(timeout: timeout)
            else { return nil }
            let queue = settings.names.requestQueue(of: destination)
            // Its name is one that only this caller's side assumes: a queue that is not there says nothing.
            let answer = try? await channel.declareQueue(queue, passive: true, timeout: timeout)
            await channel.close()
            return answer?.consumerCount
        }
    }
}
