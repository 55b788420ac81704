/// A value that is set once; any number of tasks can wait for it or read it later. The first value is final.
public final class OneShot<Value: Sendable>: Sendable {
    // Inlinable and public for the same reason as ``Monitor``.

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

    /// Creates a one-shot without a value.
    @inlinable
    public init() {
        monitor = Monitor(State())
    }

    /// The value, if it has been set.
    @inlinable
    public var current: Value? { monitor.read { $0.value } }

    /// Sets the value, calls the handlers and resumes all waiters. False when it had already been set.
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

    /// Calls `handler` on the thread that calls ``set(_:)``, or immediately if the value has been set.
    @inlinable
    public func whenSet(_ handler: @escaping @Sendable (Value) -> Void) {
        let value = monitor.change { state -> Value? in
            if state.value == nil { state.handlers.append(handler) }
            return state.value
        }
        if let value { handler(value) }
    }

    /// Waits for the value; returns immediately if it has been set, even in a cancelled task.
    ///
    /// - Throws: `CancellationError` when the waiting task is cancelled first.
    @inlinable
    public nonisolated(nonsending) func value() async throws(CancellationError) -> Value {
        do throws(WaitFailure) {
            return try await monitor.wait { $0.value }
        } catch {
            throw CancellationError()
        }
    }

    /// Waits for the value until the deadline.
    @inlinable
    public nonisolated(nonsending) func value(
        before deadline: ContinuousClock.Instant
    ) async throws(WaitFailure) -> Value {
        try await monitor.wait(before: deadline) { $0.value }
    }

    /// Waits for the value; `nil` when the waiting task is cancelled first.
    @inlinable
    public nonisolated(nonsending) func wait() async -> Value? { try? await value() }

    /// Waits for the value, at most this long; `nil` after that, and when the waiting task is cancelled first.
    @inlinable
    public nonisolated(nonsending) func wait(atMost timeout: Duration) async -> Value? {
        try? await value(before: .now + max(.zero, timeout.clamped))
    }

    /// Waits for the value without a limit, even in a cancelled task: for callers whose cancellation sets a value.
    @inlinable
    public nonisolated(nonsending) func settled() async -> Value {
        await withCheckedContinuation { continuation in
            whenSet { continuation.resume(returning: $0) }
        }
    }
}
