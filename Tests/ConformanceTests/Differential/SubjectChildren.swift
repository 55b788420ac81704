import Supervision
import Synchronization

/// What the processes of a scenario fail with.
struct ScenarioError: Error, CustomStringConvertible {
    var description: String

    static let crash = ScenarioError(description: "crash")
    static let fail = ScenarioError(description: "fail")
    static let cause = ScenarioError(description: "cause")
}

/// A child without `run()`.
actor Idler {}

/// A child that ends when it is told to.
actor Obedient: Worker {
    private let order: Order

    init(_ order: Order) { self.order = order }

    func run() async throws {
        try await order.wait()
    }
}

/// One order for one worker.
final class Order: Sendable {
    private enum State {
        case none
        case waiting(CheckedContinuation<Void, any Error>)
        case given(Result<Void, any Error>)
    }

    private let state = Mutex(State.none)

    /// Only the first counts.
    func give(_ result: Result<Void, any Error>) {
        let continuation = state.withLock { state -> CheckedContinuation<Void, any Error>? in
            switch state {
            case .none:
                state = .given(result)
                return nil
            case .waiting(let continuation):
                state = .given(result)
                return continuation
            case .given: return nil
            }
        }
        continuation?.resume(with: result)
    }

    /// Returns or throws as ordered; throws `CancellationError` when the task is cancelled before.
    func wait() async throws {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let result = state.withLock { state -> Result<Void, any Error>? in
                    if case .given(let result) = state { return result }
                    state = .waiting(continuation)
                    return nil
                }
                if let result { continuation.resume(with: result) }
            }
        } onCancel: {
            give(.failure(CancellationError()))
        }
    }
}
