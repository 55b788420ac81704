/// A value that is set once, and any number of tasks that wait for it, or ask for it later. The first value stands.
public final class OneShot<Value: Sendable>: Sendable {
    // Inlinable and public, as ``Monitor`` is, and for its reason.

    @usableFromInline
    struct State: Sendable {
        @usableFromInline
        var value: Value?
        @usableFromInline
        var handlers: [@Sendable (Value) -> Void] = []

        @inlinable
        init() {}
    }

    @usableFromInline
    let monitor: Monitor<State>

    /// Without a value.
    @inlinable
    public init() {
        monitor = Monitor(State())
    }

    /// The value, if it has been set.
    @inlinable
    public var current: Value? { monitor.read { $0.value } }

    /// Sets the value, calls the handlers and resumes all who wait. False when it had been set before.
    @discardableResult
    @inlinable
    public func set(_ value: Value) -> Bool {
        let handlers = monitor.change { state -> [@Sendable (Value) -> Void]? in
            guard state.value == nil else { return nil }
            state.value = value
            defer { state.handlers = [] }
            return state.handlers
        }
        guard let handlers else { return false }
        for handler in handlers { handler(value) }
        return true
    }

    /// Calls `handler` where ``set(_:)`` is called, or at once, here, if it was.
    @inlinable
    public func whenSet(_ handler: @escaping @Sendable (Value) -> Void) {
        let value = monitor.change { state -> Value? in
            if state.value == nil { state.handlers.append(handler) }
            return state.value
        }
        if let value { handler(value) }
    }

    /// The value, waited for; at once if it has been set, also in a task that is cancelled.
    ///
    /// - Throws: `CancellationError` when the waiting task is cancelled before.
    @inlinable
    public nonisolated(nonsending) func value() async throws(CancellationError) -> Value {
        do throws(WaitFailure) {
            return try await monitor.wait { $0.value }
        } catch {
            throw CancellationError()
        }
    }

    /// The value, waited for no longer than until the deadline.
    @inlinable
    public nonisolated(nonsending) func value(
        before deadline: ContinuousClock.Instant
    ) async throws(WaitFailure) -> Value {
        try await monitor.wait(before: deadline) { $0.value }
    }

    /// The value, waited for; `nil` when the waiting task is cancelled before.
    @inlinable
    public nonisolated(nonsending) func wait() async -> Value? { try? await value() }

    /// The value, waited for no longer than this; `nil` then, and when the waiting task is cancelled before.
    @inlinable
    public nonisolated(nonsending) func wait(atMost timeout: Duration) async -> Value? {
        try? await value(before: .now + max(.zero, timeout.clamped))
    }

    /// The value, waited for however long it takes, also in a task that is cancelled: for those whose cancellation sets one.
    @inlinable
    public nonisolated(nonsending) func settled() async -> Value {
        await withCheckedContinuation { continuation in
            whenSet { continuation.resume(returning: $0) }
        }
    }
}
