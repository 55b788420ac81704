internal import ConcurrencyPrimitives
import NIOCore

/// Pending calls of ``AMQPConnection/updateSecret(_:reason:timeout:)``, in order, because the answers carry no id.
struct SecretUpdates {
    /// The limit of calls that wait for an answer which may never come.
    static let limit = 16

    typealias Outcome = OneShot<Result<Void, AMQPError>>

    private var calls: [(id: UInt64, outcome: Outcome?)] = []
    private var lastID: UInt64 = 0

    var isFull: Bool { calls.count >= Self.limit }

    mutating func nextID() -> UInt64 {
        lastID += 1
        return lastID
    }

    mutating func append(_ id: UInt64, _ outcome: Outcome) {
        calls.append((id, outcome))
    }

    /// The caller no longer waits. The answer will be ignored.
    mutating func abandon(_ id: UInt64) -> Outcome? {
        guard let index = calls.firstIndex(where: { $0.id == id }) else { return nil }
        defer { calls[index].outcome = nil }
        return calls[index].outcome
    }

    mutating func answered() -> Outcome? {
        calls.isEmpty ? nil : calls.removeFirst().outcome
    }

    mutating func removeAll() -> [Outcome] {
        defer { calls = [] }
        return calls.compactMap(\.outcome)
    }
}
