/// The value offered by the living incarnation of a process: read without an actor hop, and waited for while there is none.
///
/// A value is set by an incarnation (``set(_:)``) and removed with it (``clear(_:)``). While there is none, callers wait for the next one,
/// unless none will come (``end(because:)``). `Source` identifies what creates incarnations, as long as it lives.
public final class Current<Value: AnyObject & Sendable, Source: Equatable & Sendable, Reason: Sendable>: Sendable {
    /// Why there is no value.
    public enum Absence: Error, Sendable {
        /// No further value will come, for this reason, until incarnations begin again.
        case ended(Reason)
        /// The deadline has passed.
        case deadline
        case cancelled
        /// The limit of waiting tasks is reached.
        case overloaded(limit: Int)
    }

    private struct State: Sendable {
        var value: Value?
        var ended: Reason?
        var source: Source?
    }

    private let monitor = Monitor(State())
    private let limit: Int

    /// - Parameter limit: The maximum number of waiting tasks.
    public init(limit: Int) {
        self.limit = limit
    }

    /// The value, if there is one now.
    public var value: Value? { monitor.read { $0.value } }

    /// Why no further value will come, if that is so.
    public var ended: Reason? { monitor.read { $0.value == nil ? $0.ended : nil } }

    /// The number of waiting tasks.
    public var waiting: Int { monitor.waiting }

    /// The value of a living incarnation other than `old`, waiting until the deadline.
    public nonisolated(nonsending) func value(
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

    /// Sets the value of a new incarnation.
    public func set(_ value: Value) {
        monitor.change { $0.value = value }
    }

    /// Sets the value of a new incarnation, unless another one is alive. Returns whether it is the living one now.
    public func claim(_ value: Value) -> Bool {
        monitor.change { state in
            guard state.value == nil else { return false }
            state.value = value
            return true
        }
    }

    /// Removes the value of an incarnation that has ended.
    public func clear(_ value: Value) {
        monitor.change { if $0.value === value { $0.value = nil } }
    }

    /// Incarnations will come from this source. Returns whether it differs from the previous one.
    public func begin(from source: Source) -> Bool {
        monitor.change { state in
            defer { (state.source, state.ended) = (source, nil) }
            return state.source != source
        }
    }

    /// No further incarnation will come, for this reason: fails the waiting tasks.
    public func end(because reason: Reason) {
        monitor.change { $0.ended = reason }
    }

    /// The same, unless incarnations come from another source by now.
    public func end(because reason: Reason, from source: Source) {
        monitor.change { if $0.source == source { $0.ended = reason } }
    }

    /// Has an effect only while there is no incarnation: sets why none will come, or with `nil` that one may come, and forgets the
    /// source. A living incarnation comes from a source that keeps running.
    public func whileAbsent(endedBecause reason: Reason?) {
        monitor.change { state in
            guard state.value == nil else { return }
            state.ended = reason
            if reason == nil { state.source = nil }
        }
    }
}
