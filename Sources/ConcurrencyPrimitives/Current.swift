/// What the living incarnation of a process offers: looked up without a hop, and waited for while there is none.
///
/// A value comes with an incarnation (``set(_:)``) and goes with it (``clear(_:)``). While there is none, whoever needs one waits for
/// the next, unless nobody is going to make one (``end(because:)``).
package final class Current<Value: AnyObject & Sendable, Reason: Sendable>: Sendable {
    /// Why there is no value.
    package enum Absence: Error, Sendable {
        /// Nobody makes another one, for this reason, before ``begin()``.
        case ended(Reason)
        /// The time is over.
        case deadline
        case cancelled
        /// As many wait for it as may.
        case overloaded(limit: Int)
    }

    private struct State: Sendable {
        var value: Value?
        var ended: Reason?
    }

    private let monitor = Monitor(State())
    private let limit: Int

    /// - Parameter limit: How many may wait at once.
    package init(limit: Int) {
        self.limit = limit
    }

    /// The value, if there is one now.
    package var value: Value? { monitor.read { $0.value } }

    /// How many wait.
    package var waiting: Int { monitor.waiting }

    /// The value of a living incarnation other than `old`, waited for until the deadline.
    package nonisolated(nonsending) func value(
        otherThan old: Value? = nil,
        before deadline: ContinuousClock.Instant
    ) async throws(Absence) -> Value {
        let result: Result<Value, Absence>
        do throws(WaitFailure) {
            result = try await monitor.wait(before: deadline, limit: limit) { state in
                if let value = state.value, value !== old { return .success(value) }
                return state.ended.map { .failure(.ended($0)) }
            }
        } catch {
            switch error {
            case .cancelled: throw .cancelled
            case .deadline: throw .deadline
            case .full: throw .overloaded(limit: limit)
            }
        }
        return try result.get()
    }

    /// A new incarnation is there.
    package func set(_ value: Value) {
        monitor.change { state in
            state.value = value
            state.ended = nil
        }
    }

    /// An incarnation is gone.
    package func clear(_ value: Value) {
        monitor.change { if $0.value === value { $0.value = nil } }
    }

    /// An incarnation is going to be made: who needs one waits.
    package func begin() {
        monitor.change { $0.ended = nil }
    }

    /// To wait for another incarnation is in vain, for this reason.
    package func end(because reason: Reason) {
        monitor.change { $0.ended = reason }
    }
}
