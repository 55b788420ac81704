import ConcurrencyPrimitives

/// A task under a ``TaskSupervisor``, and its outcome.
public struct SupervisedTask<R: Sendable>: Sendable {
    /// The task's process: kill it, link it, watch it.
    public let pid: Pid
    let outcome: TaskOutcome<R>
    let clock: any SupervisionClock

    /// What the task returned.
    ///
    /// - Throws: ``CallError/exited(child:_:)`` with the reason when the task ended without a result; `CancellationError` when the waiting
    ///   task is cancelled, which leaves the supervised task running.
    public var value: R {
        get async throws {
            switch try await outcome.value() {
            case .success(let value): return value
            case .failure(let reason): throw CallError.exited(child: "\(pid)", reason)
            case .timedOut(let duration): throw CallError.timeout(child: "\(pid)", after: duration)
            }
        }
    }

    /// The task's result, or why it ended without one.
    ///
    /// - Throws: `CancellationError` when the waiting task is cancelled.
    public var result: TaskResult<R> {
        get async throws { try await outcome.value() }
    }

    /// Waits for the result within a time limit: `nil` when the task is still running then (Elixir's `Task.yield`). The task keeps running,
    /// and can be asked again.
    ///
    /// - Parameter timeout: How long to wait, by the clock of the task's tree.
    /// - Throws: `CancellationError` when the waiting task is cancelled.
    public func result(within timeout: Duration) async throws -> TaskResult<R>? {
        if let result = outcome.current { return result }
        let timeIsUp = OneShot<Void>()
        let timer = clock.schedule(after: timeout.clamped) { timeIsUp.set(()) }
        defer { timer.cancel() }
        return try await withThrowingTaskGroup(of: TaskResult<R>?.self) { group in
            group.addTask { [outcome] in try await outcome.value() }
            group.addTask {
                try await timeIsUp.value()
                return nil
            }
            defer { group.cancelAll() }
            return try await group.next() ?? nil
        }
    }

    /// Stops the task if it is still running, and returns its result (Elixir's `Task.shutdown`).
    ///
    /// A task that has finished, or finishes within the time it is given, keeps its result: nothing is lost. Otherwise the result is its
    /// exit reason, ``ExitReason/killed`` when it had to be killed.
    ///
    /// - Parameter mode: How to stop it: with a timeout it is asked (or cancelled), and killed after the timeout.
    public func shutdown(_ mode: Shutdown = .timeout(.seconds(5))) async -> TaskResult<R> {
        if let result = outcome.current { return result }
        switch mode {
        case .brutalKill:
            pid.kill()
            return await outcome.settled()
        case .infinity:
            pid.exit(.shutdown())
            return await outcome.settled()
        case .timeout(let timeout):
            pid.exit(.shutdown())
            let timer = clock.schedule(after: timeout) { [pid] in pid.kill() }
            defer { timer.cancel() }
            return await outcome.settled()
        }
    }
}

extension Sequence {
    /// Waits for the results of these tasks within one common time limit, in their order: `nil` for a task that is still running then
    /// (Elixir's `Task.yield_many`).
    ///
    /// - Throws: `CancellationError` when the waiting task is cancelled.
    public func results<R>(within timeout: Duration) async throws -> [TaskResult<R>?]
    where Element == SupervisedTask<R> {
        let tasks = Array(self)
        guard let clock = tasks.first?.clock else { return [] }
        let deadline = clock.now + timeout.clamped
        var results: [TaskResult<R>?] = []
        for task in tasks { results.append(try await task.result(within: deadline - clock.now)) }
        return results
    }
}

/// The result of a supervised task.
public enum TaskResult<R: Sendable>: Sendable {
    /// It returned this.
    case success(R)
    /// It ended with this reason.
    case failure(ExitReason)
    /// It exceeded the time limit of its stream for one element, and was killed.
    case timedOut(after: Duration)
}

extension TaskResult: Equatable where R: Equatable {}

extension Child {
    /// A child that consists of one operation and needs no actor of its own: like a ``Worker``, it runs until `operation` returns or
    /// throws.
    ///
    ///     Child.task("import", restart: .transient) { context in try await importAll() }
    ///
    /// - Parameters:
    ///   - id: Unique among the siblings, not empty, without `/`.
    ///   - restart: When it is run again.
    ///   - options: How it is stopped, restarted and monitored. It is asked to stop first if `operation` takes the context's
    ///     ``ChildContext/stopRequest``, otherwise it is cancelled immediately.
    ///   - operation: The work. It gets the context of its process.
    public static func task(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        _ operation: @escaping @Sendable (ChildContext) async throws -> Void
    ) -> Child {
        Child(id, restart: restart, options: options) { context in
            TaskWorker(context, nil as TaskOutcome<Void>?, operation)
        }
    }
}

/// The worker that runs one task.
actor TaskWorker<R: Sendable>: Worker {
    private let context: ChildContext
    private let outcome: TaskOutcome<R>?
    private let operation: @Sendable (ChildContext) async throws -> R

    init(
        _ context: ChildContext,
        _ outcome: TaskOutcome<R>?,
        _ operation: @escaping @Sendable (ChildContext) async throws -> R
    ) {
        self.context = context
        self.outcome = outcome
        self.operation = operation
    }

    func run() async throws {
        let result = try await operation(context)
        outcome?.finish(.success(result))
    }
}

/// The first of result, exit and timeout, and the callers that wait for it.
final class TaskOutcome<R: Sendable>: Sendable {
    private let once = OneShot<TaskResult<R>>()
    private let onFinish: (@Sendable () -> Void)?

    init(onFinish: (@Sendable () -> Void)? = nil) {
        self.onFinish = onFinish
    }

    var current: TaskResult<R>? { once.current }

    /// Sets the outcome; false when there already was one.
    @discardableResult
    func finish(_ result: TaskResult<R>) -> Bool {
        guard once.set(result) else { return false }
        onFinish?()
        return true
    }

    func value() async throws(CancellationError) -> TaskResult<R> { try await once.value() }

    func settled() async -> TaskResult<R> { await once.settled() }
}
