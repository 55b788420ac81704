import Synchronization

/// Why a wait ended without a result.
public enum WaitFailure: Error, Sendable, Equatable {
    /// The waiting task was cancelled.
    case cancelled
    /// The deadline passed.
    case deadline
    /// The limit of waiters is reached.
    case full
}

/// A state behind a lock, and the tasks that wait for a condition of it.
///
/// A waiter has a closure that reads the state, and may take its result from it. The closures run under the lock: before the wait begins,
/// so that an available result is not waited for, and after each ``change(_:)``. A waiter is resumed exactly once, outside the lock: with
/// the result of its closure, or with the first ``WaitFailure``.
///
/// A result that a closure has taken is final: a later cancellation has no effect.
public final class Monitor<State: Sendable>: Sendable {
    /// Which waiters are checked after a change of the state.
    public enum Order: Sendable {
        /// Every waiter: they wait for different conditions.
        case all
        /// In order of arrival, as long as each gets its result: they wait for the same condition.
        case inTurn
    }

    // Inlinable code is specialized for each state in the module that uses it; otherwise each change would look up generic metadata at run
    // time. That requires `public`: `package` declarations are not specialized in other modules, inlinable or not.

    @usableFromInline
    typealias Resumption = @Sendable () -> Void

    @usableFromInline
    struct Waiter: Sendable {
        @usableFromInline
        let token: UInt64
        @usableFromInline
        let check: @Sendable (inout State) -> Resumption?
        @usableFromInline
        let fail: @Sendable (WaitFailure) -> Void

        @inlinable
        init(
            token: UInt64,
            check: @escaping @Sendable (inout State) -> Resumption?,
            fail: @escaping @Sendable (WaitFailure) -> Void
        ) {
            self.token = token
            self.check = check
            self.fail = fail
        }
    }

    @usableFromInline
    struct Contents: Sendable {
        @usableFromInline
        var state: State
        @usableFromInline
        var waiters: [Waiter] = []
        @usableFromInline
        var lastToken: UInt64 = 0

        @inlinable
        init(state: State) {
            self.state = state
        }

        @inlinable
        mutating func takeDue(_ order: Order) -> [Resumption] {
            guard !waiters.isEmpty else { return [] }
            var due: [Resumption] = []
            switch order {
            case .all:
                var left: [Waiter] = []
                for waiter in waiters {
                    if let resumption = waiter.check(&state) { due.append(resumption) } else { left.append(waiter) }
                }
                if !due.isEmpty { waiters = left }
            case .inTurn:
                for waiter in waiters {
                    guard let resumption = waiter.check(&state) else { break }
                    due.append(resumption)
                }
                waiters.removeFirst(due.count)
            }
            return due
        }
    }

    @usableFromInline
    let contents: Mutex<Contents>
    @usableFromInline
    let order: Order

    /// Creates a monitor without waiters.
    @inlinable
    public init(_ state: State, order: Order = .all) {
        contents = Mutex(Contents(state: state))
        self.order = order
    }

    /// The number of waiters.
    @inlinable
    public var waiting: Int { contents.withLock { $0.waiters.count } }

    /// Reads the state.
    @inlinable
    public func read<Result: Sendable>(_ body: @Sendable (State) -> Result) -> Result {
        contents.withLock { body($0.state) }
    }

    /// Changes the state, and resumes the waiters whose condition is met by that.
    @discardableResult
    @inlinable
    public func change<Result: Sendable>(_ body: (inout State) -> Result) -> Result {
        let (result, due) = contents.withLock { contents -> (Result, [Resumption]) in
            let result = body(&contents.state)
            return (result, contents.takeDue(order))
        }
        for resumption in due { resumption() }
        return result
    }

    /// Waits until `take` returns something.
    ///
    /// An available result is returned immediately, even in a cancelled task, and after the deadline. In an ``Order/inTurn`` monitor no
    /// caller overtakes the waiters.
    ///
    /// - Parameters:
    ///   - deadline: On the system's clock; `nil` for none.
    ///   - limit: The maximum number of waiters.
    ///   - take: Reads the state, and may take the result from it. It is not called again after it has returned a result.
    @inlinable
    public nonisolated(nonsending) func wait<Outcome: Sendable>(
        before deadline: ContinuousClock.Instant? = nil,
        limit: Int = .max,
        for take: @escaping @Sendable (inout State) -> Outcome?
    ) async throws(WaitFailure) -> Outcome {
        let (outcome, token) = contents.withLock { contents -> (Outcome?, UInt64) in
            contents.lastToken += 1
            let mayTake = order == .all || contents.waiters.isEmpty
            return (mayTake ? take(&contents.state) : nil, contents.lastToken)
        }
        if let outcome { return outcome }
        let timer = deadline.map { deadline in
            SystemTimers.shared.schedule(after: ContinuousClock.now.duration(to: deadline)) { [weak self] in
                self?.fail(token, .deadline)
            }
        }
        defer { timer?.cancel() }
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: CheckedContinuation<Result<Outcome, WaitFailure>, Never>) in
                let now = contents.withLock { contents -> Result<Outcome, WaitFailure>? in
                    let mayTake = order == .all || contents.waiters.isEmpty
                    if mayTake, let outcome = take(&contents.state) { return .success(outcome) }
                    // The task is marked as cancelled before its handler runs, and a timer fires after its deadline: a handler or timer
                    // that found no waiter is noticed here.
                    if Task.isCancelled { return .failure(.cancelled) }
                    if let deadline, ContinuousClock.now >= deadline { return .failure(.deadline) }
                    if contents.waiters.count >= limit { return .failure(.full) }
                    contents.waiters.append(
                        Waiter(
                            token: token,
                            check: { state in
                                guard let outcome = take(&state) else { return nil }
                                return { continuation.resume(returning: .success(outcome)) }
                            },
                            fail: { continuation.resume(returning: .failure($0)) }
                        )
                    )
                    return nil
                }
                if let now { continuation.resume(returning: now) }
            }
        } onCancel: {
            fail(token, .cancelled)
        }
        return try result.get()
    }

    @inlinable
    func fail(_ token: UInt64, _ failure: WaitFailure) {
        let (waiter, due) = contents.withLock { contents -> (Waiter?, [Resumption]) in
            guard let index = contents.waiters.firstIndex(where: { $0.token == token }) else { return (nil, []) }
            let waiter = contents.waiters.remove(at: index)
            // The next waiter may need less than the one before it.
            return (waiter, order == .inTurn && index == 0 ? contents.takeDue(order) : [])
        }
        waiter?.fail(failure)
        for resumption in due { resumption() }
    }
}
