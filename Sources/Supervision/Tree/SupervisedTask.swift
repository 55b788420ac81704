import ConcurrencyPrimitives

/// A task under a ``TaskSupervisor``, and its outcome.
public struct SupervisedTask<R: Sendable>: Sendable {
    /// The task's process: kill it, link it, watch it.
    public let pid: Pid
    let outcome: TaskOutcome<R>
    let clock: any SupervisionClock

    /// What the task returned.
    ///
    /// - Throws: ``CallError/exited(child:_:)`` with the reason when it ended without a result; `CancellationError` when the
    ///   waiting task is cancelled, which leaves the supervised task running.
    public var value: R {
        get async throws {
            switch try await outcome.value() {
            case .success(let value): return value
            case .failure(let reason): throw CallError.exited(child: "\(pid)", reason)
            case .timedOut(let duration): throw CallError.timeout(child: "\(pid)", after: duration)
            }
        }
    }

    /// What the task returned, or why it ended without a result.
    ///
    /// - Throws: `CancellationError` when the waiting task is cancelled.
    public var result: TaskResult<R> {
        get async throws { try await outcome.value() }
    }

    /// What has become of the task within a time: `nil` when it is still running then (Elixir's `Task.yield`). It goes on
    /// running, and can be asked again.
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

    /// Ends the task if it is still running, and returns what has become of it (Elixir's `Task.shutdown`).
    ///
    /// A task that was done before, or finishes in the time it is given, has its result: nothing is lost. Otherwise the result
    /// is the reason of its end, ``ExitReason/killed`` when it had to be killed.
    ///
    /// - Parameter mode: How to end it: with a timeout it is asked (or cancelled), and killed when that has passed.
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
    /// What has become of each of these tasks within a time, in their order: `nil` for one that is still running then (Elixir's
    /// `Task.yield_many`). The time is one for all of them.
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

/// What a supervised task came to.
public enum TaskResult<R: Sendable>: Sendable {
    /// It returned this.
    case success(R)
    /// It ended with this reason.
    case failure(ExitReason)
    /// It took longer than an element of its stream may, and was killed.
    case timedOut(after: Duration)
}

extension TaskResult: Equatable where R: Equatable {}

extension Child {
    /// A child that is a piece of work and needs no actor of its own: it runs until `operation` returns or throws, as a ``Worker``
    /// does.
    ///
    ///     Child.task("import", restart: .transient) { context in try await importAll() }
    ///
    /// - Parameters:
    ///   - id: Unique among the siblings, not empty, without `/`.
    ///   - restart: When it is run again.
    ///   - options: How it is stopped, restarted and watched. It is asked to stop first when `operation` takes the context's
    ///     ``ChildContext/stopRequest``, and else cancelled at once.
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

/// The first of result, exit and timeout, and who waits for it.
final class TaskOutcome<R: Sendable>: Sendable {
    private let once = OneShot<TaskResult<R>>()
    private let onFinish: (@Sendable () -> Void)?

    init(onFinish: (@Sendable () -> Void)? = nil) {
        self.onFinish = onFinish
    }

    var current: TaskResult<R>? { once.current }

    /// False when there was one before.
    @discardableResult
    func finish(_ result: TaskResult<R>) -> Bool {
        guard once.set(result) else { return false }
        onFinish?()
        return true
    }

    func value() async throws(CancellationError) -> TaskResult<R> { try await once.value() }

    func settled() async -> TaskResult<R> { await once.settled() }
}
