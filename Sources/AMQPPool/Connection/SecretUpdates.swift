internal import ConcurrencyPrimitives
import NIOCore

/// Pending calls of ``AMQPConnection/updateSecret(_:reason:timeout:)``, in order, because the answers carry no id.
struct SecretUpdates {
    /// The limit of calls that wait for an answer which may never come.
    static let limit = 16

    typealias Continuation = CheckedContinuation<Result<Void, AMQPError>, Never>

    private var calls: [(id: UInt64, continuation: Continuation?)] = []
    private var lastID: UInt64 = 0

    var isFull: Bool { calls.count >= Self.limit }

    mutating func nextID() -> UInt64 {
        lastID += 1
        return lastID
    }

    mutating func append(_ id: UInt64, _ continuation: Continuation) {
        calls.append((id, continuation))
    }

    /// The caller no longer waits. The answer will be ignored.
    mutating func abandon(_ id: UInt64) -> Continuation? {
        guard let index = calls.firstIndex(where: { $0.id == id }) else { return nil }
        defer { calls[index].continuation = nil }
        return calls[index].continuation
    }

    mutating func answered() -> Continuation? {
        calls.isEmpty ? nil : calls.removeFirst().continuation
    }

    mutating func removeAll() -> [Continuation] {
        defer { calls = [] }
        return calls.compactMap(\.continuation)
    }
}
