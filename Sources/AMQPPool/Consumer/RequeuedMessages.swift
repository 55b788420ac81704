import DequeModule
import NIOCore
import Synchronization

/// The messages that a consumer has requeued because their handler failed.
///
/// A classic queue of RabbitMQ 3.10 to 4.2 that lost waiting messages in a graceful restart marks no later message as redelivered. A
/// message with an id is recognised by it when it comes again; without this it would be requeued forever.
final class RequeuedMessages: Sendable {
    /// What identifies a message. A redelivery is equal in all of it; two messages that have the same id by mistake rarely are.
    struct Key: Hashable, Sendable {
        let id: String
        let routingKey: String
        let bodySize: Int

        /// `nil` for a message without an id.
        init?(_ delivery: Delivery) {
            guard let id = delivery.properties.messageID else { return nil }
            self.id = id
            routingKey = delivery.routingKey
            bodySize = delivery.body.readableBytes
        }
    }

    private struct State {
        var serials: [Key: UInt64] = [:]
        /// Oldest first. Contains leftovers of removed entries.
        var order: Deque<(key: Key, serial: UInt64)> = []
        var lastSerial: UInt64 = 0
    }

    private let limit: Int
    private let state = Mutex(State())
    /// Read for each delivery, without the lock: usually nothing has been requeued.
    private let isEmpty = Atomic(true)

    /// - Parameter limit: The maximum number of messages kept; the oldest are dropped.
    init(limit: Int = 4096) {
        self.limit = max(1, limit)
    }

    func insert(_ delivery: Delivery) {
        guard let key = Key(delivery) else { return }
        state.withLock { state in
            state.lastSerial += 1
            state.serials[key] = state.lastSerial
            state.order.append((key, state.lastSerial))
            if state.order.count > limit {
                let oldest = state.order.removeFirst()
                if state.serials[oldest.key] == oldest.serial { state.serials[oldest.key] = nil }
            }
            isEmpty.store(false, ordering: .releasing)
        }
    }

    func contains(_ delivery: Delivery) -> Bool {
        guard !isEmpty.load(ordering: .acquiring), let key = Key(delivery) else { return false }
        return state.withLock { $0.serials[key] != nil }
    }

    /// The message is not expected again. An equal one that comes later is a new one.
    func remove(_ delivery: Delivery) {
        guard let key = Key(delivery) else { return }
        state.withLock { state in
            state.serials[key] = nil
            isEmpty.store(state.serials.isEmpty, ordering: .releasing)
        }
    }
}
