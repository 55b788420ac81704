import ConcurrencyPrimitives
import Synchronization

/// A child by its position in the tree: it stays valid across restarts, and is resolved at each use.
///
/// A call runs on the incarnation that is alive at that moment, and never returns the result of an incarnation that died in the meantime. A
/// direct reference to the actor bypasses this: a call suspended in a killed actor would return success. Keep references, not actors.
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
    /// The incarnation is checked for liveness on the actor right before and again after the body. The call returns as soon as the
    /// incarnation ends, the deadline passes or the calling task is cancelled, even while the body is running; the body's task is then
    /// cancelled and its result dropped.
    ///
    /// - Parameters:
    ///   - timeout: The time limit for waiting and the body together; five seconds by default, as in OTP.
    ///   - whileRestarting: What to do while the child is being restarted and has no incarnation.
    ///   - body: The work, which runs on the actor. It is called at most once.
    /// - Throws: ``CallError``, `CancellationError`, or what the body throws. With ``WhileRestarting/wait``,
    ///   ``CallError/restarting(child:)`` when no incarnation started before the deadline.
    public func call<R: Sendable>(
        timeout: Duration = .seconds(5),
        whileRestarting: WhileRestarting = .fail,
        _ body: @escaping @Sendable (isolated A) async throws -> R
    ) async throws -> R {
        let timeout = timeout.clamped
        switch whileRestarting {
        case .fail:
            return try await attempt(address.child(), timeout: timeout, until: timeout, body).get()
        case .wait:
            var deadline: Duration?
            while true {
                switch address.lookUp() {
                case .child(let child):
                    let now = child.owner.environment.clock.now
                    let end = deadline ?? now + timeout.clamped
                    deadline = end
                    switch try await attempt(child, timeout: timeout, until: end - now, body) {
                    case .result(let result): return try result.get()
                    case .ended(_, hasBegun: false): continue
                    case .ended(let error, hasBegun: true): throw error
                    }
                case .restarting(let coming):
                    let end = deadline ?? coming.supervisor.environment.clock.now + timeout.clamped
                    deadline = end
                    guard try await coming.changed(before: end) else { throw CallError.restarting(child: path) }
                case .supervisor, .none: throw CallError.noProcess(child: path)
                }
            }
        }
    }

    /// Runs `body` on one incarnation. `timeout` is the caller's timeout, `left` what remains of it. `isLeased` is true when the process is
    /// already protected from being ended as idle.
    func attempt<R: Sendable>(
        _ child: ChildProcess,
        timeout: Duration,
        until left: Duration,
        isLeased: Bool = false,
        _ body: @escaping @Sendable (isolated A) async throws -> R
    ) async throws -> CallAttempt<R> {
        // It has ended since the lookup: the caller looks up the next incarnation if it waits.
        guard let current = child.actor else { return .ended(.restarting(child: path), hasBegun: false) }
        let actor = try cast(current)
        let process = child.process
        let address = address
        let release = isLeased ? nil : child.owner.specification.keyed?.table.lease(child.entry)
        let race = CallRace<R>()
        // The race cancels this task when it is decided otherwise. Nobody waits for it then: its process has ended or the caller has given
        // up, and its result is dropped.
        race.task = Task {
            do {
                let result = try await ChildReference.enter(actor, process, address, race, body)
                race.finish(.success(result))
            } catch {
                race.finish(.failure(error))
            }
        }
        let token = process.watch { race.processEnded(CallError.exited(child: address.path, $0)) }
        let timer = child.owner.environment.clock.schedule(after: left) {
            race.finish(.failure(CallError.timeout(child: address.path, after: timeout)))
        }
        defer {
            timer.cancel()
            process.unwatch(token)
            release?()
        }
        return await race.value()
    }

    /// The actor of the current incarnation, without an actor hop. For modules that check liveness themselves.
    package func resolve() throws(CallError) -> A {
        guard let actor = try address.child().actor else { throw .restarting(child: path) }
        return try cast(actor)
    }

    private static func enter<R: Sendable>(
        _ actor: isolated A,
        _ process: Process,
        _ address: Address,
        _ race: CallRace<R>,
        _ body: @Sendable (isolated A) async throws -> R
    ) async throws -> R {
        if let reason = process.exitReason { race.processEnded(.exited(child: address.path, reason)) }
        guard race.begin() else { throw CancellationError() }
        let result = try await body(actor)
        if let reason = process.exitReason { race.processEnded(.exited(child: address.path, reason)) }
        return result
    }

    private func cast(_ any: any Actor) throws(CallError) -> A {
        guard let actor = any as? A else {
            throw .wrongType(child: path, expected: "\(A.self)", actual: "\(type(of: any))")
        }
        return actor
    }
}

/// What a call does while its child is being restarted.
public enum WhileRestarting: Sendable, Hashable {
    /// Fail immediately with ``CallError/restarting(child:)``.
    case fail
    /// Wait for the next incarnation, within the call's timeout. A call whose body has begun is never retried.
    case wait
}

/// The outcome of one attempt at a call.
enum CallAttempt<R: Sendable>: Sendable {
    case result(Result<R, any Error>)
    /// The incarnation ended first. `hasBegun` is true if the body had begun.
    case ended(CallError, hasBegun: Bool)

    func get() throws -> R {
        switch self {
        case .result(let result): try result.get()
        case .ended(let error, _): throw error
        }
    }
}

/// Decides a call by the first of its result, the exit, the deadline and the cancellation.
private final class CallRace<R: Sendable>: Sendable {
    private struct State {
        var outcome: CallAttempt<R>?
        var continuation: CheckedContinuation<CallAttempt<R>, Never>?
        var task: Task<Void, Never>?
        var hasBegun = false
    }

    private let state = Mutex(State())

    var task: Task<Void, Never>? {
        get { state.withLock { $0.task } }
        set {
            let isOver = state.withLock { state in
                state.task = newValue
                return state.outcome != nil
            }
            if isOver { newValue?.cancel() }
        }
    }

    /// Records that the body is about to run. False when the race is over.
    func begin() -> Bool {
        state.withLock { state in
            guard state.outcome == nil else { return false }
            state.hasBegun = true
            return true
        }
    }

    func processEnded(_ error: CallError) {
        finish { .ended(error, hasBegun: $0) }
    }

    func finish(_ result: Result<R, any Error>) {
        finish { _ in .result(result) }
    }

    private func finish(_ outcome: (_ hasBegun: Bool) -> CallAttempt<R>) {
        let (outcome, continuation, task) = state.withLock {
            state -> (CallAttempt<R>?, CheckedContinuation<CallAttempt<R>, Never>?, Task<Void, Never>?) in
            guard state.outcome == nil else { return (nil, nil, nil) }
            let outcome = outcome(state.hasBegun)
            state.outcome = outcome
            defer {
                state.continuation = nil
                state.task = nil
            }
            if case .result(.success) = outcome { return (outcome, state.continuation, nil) }
            return (outcome, state.continuation, state.task)
        }
        task?.cancel()
        if let outcome { continuation?.resume(returning: outcome) }
    }

    func value() async -> CallAttempt<R> {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let outcome = state.withLock { state -> CallAttempt<R>? in
                    if let outcome = state.outcome { return outcome }
                    state.continuation = continuation
                    return nil
                }
                if let outcome { continuation.resume(returning: outcome) }
            }
        } onCancel: {
            finish(.failure(CancellationError()))
        }
    }
}
