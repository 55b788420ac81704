import Synchronization

/// A child by its place in the tree: stays valid across restarts, and is resolved at each use.
///
/// A call through it runs on the incarnation that is alive at that moment, and never returns the result of one that died
/// meanwhile. A direct reference to the actor bypasses all this: a call that is suspended in a killed actor would return
/// success. Keep references, not actors.
public struct ChildReference<A: Actor>: Sendable {
    let address: Address

    /// The names from the tree's root down, separated by `/`.
    public var path: String { address.path }

    /// The current incarnation, `nil` while there is none.
    public var pid: Pid? {
        guard let child = try? address.child() else { return nil }
        return Pid(process: child.process)
    }

    /// Runs `body` on the current incarnation.
    ///
    /// Liveness is checked on the actor right before the body and again after it. The caller is released as soon as the
    /// incarnation ends, the deadline passes or the calling task is cancelled, not only when the body ends; the body's task is
    /// then cancelled and its result dropped.
    ///
    /// - Parameters:
    ///   - timeout: The deadline; OTP's default of five seconds.
    ///   - body: What to do, on the actor.
    /// - Throws: ``CallError``, `CancellationError`, or what the body throws.
    public func call<R: Sendable>(
        timeout: Duration = .seconds(5),
        _ body: @escaping @Sendable (isolated A) async throws -> R
    ) async throws -> R {
        let child = try address.child()
        let actor = try cast(child)
        let process = child.process
        let path = path
        let race = CallRace<R>()
        race.task = Task {
            do {
                let result = try await ChildReference.enter(actor, process, path, body)
                race.finish(.success(result))
            } catch {
                race.finish(.failure(error))
            }
        }
        let token = process.watch { race.finish(.failure(CallError.exited(child: path, $0))) }
        let timer = child.owner.environment.clock.schedule(after: timeout) {
            race.finish(.failure(CallError.timeout(child: path, after: timeout)))
        }
        defer {
            timer.cancel()
            process.unwatch(token)
        }
        return try await race.value()
    }

    /// The actor of the current incarnation, without a hop. For modules that check liveness themselves.
    package func resolve() throws(CallError) -> A {
        try cast(address.child())
    }

    private static func enter<R: Sendable>(
        _ actor: isolated A,
        _ process: Process,
        _ path: String,
        _ body: @Sendable (isolated A) async throws -> R
    ) async throws -> R {
        if let reason = process.exitReason { throw CallError.exited(child: path, reason) }
        let result = try await body(actor)
        if let reason = process.exitReason { throw CallError.exited(child: path, reason) }
        return result
    }

    private func cast(_ child: ChildProcess) throws(CallError) -> A {
        guard let any = child.actor else { throw .restarting(child: path) }
        guard let actor = any as? A else {
            throw .wrongType(child: path, expected: "\(A.self)", actual: "\(type(of: any))")
        }
        return actor
    }
}

/// The first of: the result, the exit, the deadline, the cancellation.
private final class CallRace<R: Sendable>: Sendable {
    private struct State {
        var result: Result<R, any Error>?
        var continuation: CheckedContinuation<R, any Error>?
        var task: Task<Void, Never>?
    }

    private let state = Mutex(State())

    var task: Task<Void, Never>? {
        get { state.withLock { $0.task } }
        set {
            let isOver = state.withLock { state in
                state.task = newValue
                return state.result != nil
            }
            if isOver { newValue?.cancel() }
        }
    }

    func finish(_ result: Result<R, any Error>) {
        let (continuation, task) = state.withLock {
            state -> (CheckedContinuation<R, any Error>?, Task<Void, Never>?) in
            guard state.result == nil else { return (nil, nil) }
            state.result = result
            defer {
                state.continuation = nil
                state.task = nil
            }
            return (state.continuation, state.task)
        }
        if case .failure = result { task?.cancel() }
        continuation?.resume(with: result)
    }

    func value() async throws -> R {
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let result = state.withLock { state -> Result<R, any Error>? in
                    if let result = state.result { return result }
                    state.continuation = continuation
                    return nil
                }
                if let result { continuation.resume(with: result) }
            }
        } onCancel: {
            finish(.failure(CancellationError()))
        }
    }
}
