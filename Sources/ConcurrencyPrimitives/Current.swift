/// What the living incarnation of a process offers: looked up without a hop, and waited for while there is none.
///
/// A value comes with an incarnation (``set(_:)``) and goes with it (``clear(_:)``). While there is none, whoever needs one waits for
/// the next, unless nobody is going to make one (``end(because:)``). `Source` is what makes incarnations, for as long as it lives.
public final class Current<Value: AnyObject & Sendable, Source: Equatable & Sendable, Reason: Sendable>: Sendable {
    /// Why there is no value.
    public enum Absence: Error, Sendable {
        /// Nobody makes another one, for this reason, before it begins anew.
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
        var source: Source?
    }

    private let monitor = Monitor(State())
    private let limit: Int

    /// - Parameter limit: How many may wait at once.
    public init(limit: Int) {
        self.limit = limit
    }

    /// The value, if there is one now.
    public var value: Value? { monitor.read { $0.value } }

    /// Why nobody makes another one, if that is so.
    public var ended: Reason? { monitor.read { $0.value == nil ? $0.ended : nil } }

    /// How many wait.
    public var waiting: Int { monitor.waiting }

    /// The value of a living incarnation other than `old`, waited for until the deadline.
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

    /// A new incarnation is there.
    public func set(_ value: Value) {
        monitor.change { $0.value = value }
    }

    /// A new incarnation is there, unless another one is alive. Returns whether this one is the living one now.
    public func claim(_ value: Value) -> Bool {
        monitor.change { state in
            guard state.value == nil else { return false }
            state.value = value
            return true
        }
    }

    /// An incarnation is gone.
    public func clear(_ value: Value) {
        monitor.change { if $0.value === value { $0.value = nil } }
    }

    /// Incarnations are going to come from this source. Returns whether it is another than before.
    public func begin(from source: Source) -> Bool {
        monitor.change { state in
            defer { (state.source, state.ended) = (source, nil) }
            return state.source != source
        }
    }

    /// To wait for another incarnation is in vain, for this reason.
    public func end(because reason: Reason) {
        monitor.change { $0.ended = reason }
    }

    /// The same, unless incarnations come from another source by now.
    public func end(because reason: Reason, from source: Source) {
        monitor.change { if $0.source == source { $0.ended = reason } }
    }

    /// While there is no incarnation: to wait for one is in vain for this reason, or with `nil` no longer, and the source is not known.
    /// A living one comes from a source that goes on.
    public func whileAbsent(endedBecause reason: Reason?) {
        monitor.change { state in
            guard state.value == nil else { return }
            state.ended = reason
            if reason == nil { state.source = nil }
        }
    }
}
