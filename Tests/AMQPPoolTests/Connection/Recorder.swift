import AMQPPool
import Synchronization
import Testing

/// Collects what callbacks report, and lets a test wait for it.
final class Recorder<Value: Sendable>: Sendable {
    private struct Waiter {
        var isSatisfied: @Sendable ([Value]) -> Bool
        var continuation: CheckedContinuation<Void, Never>
    }

    private struct State {
        var values: [Value] = []
        var nextID = 0
        var waiters: [Int: Waiter] = [:]
    }

    private let state = Mutex(State())

    var values: [Value] { state.withLock { $0.values } }

    func append(_ value: Value) {
        let satisfied = state.withLock { state in
            state.values.append(value)
            let values = state.values
            let ids = state.waiters.filter { $0.value.isSatisfied(values) }.map(\.key)
            return ids.compactMap { state.waiters.removeValue(forKey: $0) }
        }
        for waiter in satisfied { waiter.continuation.resume() }
    }

    /// Waits until there are `count` values, and returns what there is. Fails the test after a generous deadline.
    @discardableResult
    func wait(for count: Int, _ location: SourceLocation = #_sourceLocation) async throws -> [Value] {
        try await wait(location) { $0.count >= count }
    }

    @discardableResult
    func wait(
        _ location: SourceLocation = #_sourceLocation,
        until isSatisfied: @escaping @Sendable ([Value]) -> Bool
    ) async throws -> [Value] {
        try await within(.seconds(60), location) { await self.waitForever(until: isSatisfied) }
        return values
    }

    private func waitForever(until isSatisfied: @escaping @Sendable ([Value]) -> Bool) async {
        let id = state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isOver = state.withLock { state in
                    if isSatisfied(state.values) || Task.isCancelled { return true }
                    state.waiters[id] = Waiter(isSatisfied: isSatisfied, continuation: continuation)
                    return false
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.waiters.removeValue(forKey: id) }?.continuation.resume()
        }
    }
}

struct TookTooLong: Error {}

/// Runs the body, but not for ever: a test that hangs says nothing.
@discardableResult
func within<Result: Sendable>(
    _ limit: Duration,
    _ location: SourceLocation = #_sourceLocation,
    _ body: @escaping @Sendable () async throws -> Result
) async throws -> Result {
    try await withThrowingTaskGroup(of: Result?.self) { group in
        group.addTask { try await body() }
        group.addTask {
            try await Task.sleep(for: limit)
            return nil
        }
        defer { group.cancelAll() }
        guard let result = try await group.next() ?? nil else {
            Issue.record("took more than \(limit)", sourceLocation: location)
            throw TookTooLong()
        }
        return result
    }
}

/// The ``AMQPError`` that the body throws.
func failure<Value>(
    isolation: isolated (any Actor)? = #isolation,
    of body: () async throws(AMQPError) -> Value
) async -> AMQPError? {
    do {
        _ = try await body()
        return nil
    } catch {
        return error
    }
}
