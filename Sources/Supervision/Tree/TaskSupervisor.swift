import Logging
import ServiceLifecycle
import Synchronization

/// Supervises tasks that run once: Elixir's `Task.Supervisor`.
///
///     let tasks = try supervisor.taskSupervisor("tasks")
///     let sum = try await tasks.async { _ in try await heavySum() }
///     print(try await sum.value)
///
/// A task is a temporary child: its crash is reported, harms no other, and leaves nothing behind.
public final class TaskSupervisor: Service, Sendable {
    let dynamic: DynamicSupervisor

    /// Describes a task supervisor. The parameters are those of ``DynamicSupervisor``.
    public init(
        _ name: String,
        maxChildren: Int? = nil,
        restart: Restart = .permanent,
        shutdown: Shutdown = .infinity,
        logger: Logger? = nil,
        clock: any SupervisionClock = SystemSupervisionClock.shared
    ) {
        dynamic = DynamicSupervisor(
            name,
            maxChildren: maxChildren,
            restart: restart,
            shutdown: shutdown,
            logger: logger,
            clock: clock
        )
    }

    /// Starts it, without tasks.
    public func start() async throws { try await dynamic.start() }

    /// Stops all tasks side by side, and returns when they have ended.
    public func stop() async { await dynamic.stop() }

    /// Runs it until it ends, as ``Supervisor/run()``.
    public func run() async throws { try await dynamic.run() }

    /// The stable reference through which tasks are started.
    public var reference: TaskSupervisorReference { TaskSupervisorReference(dynamic: dynamic.reference) }
}

/// A task supervisor by its place in the tree: stays valid across restarts, and is resolved at each use.
public struct TaskSupervisorReference: Sendable {
    let dynamic: DynamicSupervisorReference

    /// Starts a task that nobody waits for (Elixir's `start_child`).
    ///
    /// - Parameters:
    ///   - label: For paths and logs.
    ///   - restart: A transient task is run again after a crash.
    ///   - shutdown: How it is stopped when its supervisor is.
    ///   - operation: The work. It gets the context of its process.
    @discardableResult
    public func startTask(
        _ label: String = "task",
        restart: Restart = .temporary,
        shutdown: Shutdown = .timeout(.seconds(5)),
        _ operation: @escaping @Sendable (ChildContext) async throws -> Void
    ) async throws(AdministrationError) -> Pid? {
        try await dynamic.startChild(
            Child(label, restart: restart, shutdown: shutdown) { context in
                TaskWorker(context, nil as TaskOutcome<Void>?, operation)
            }
        )
    }

    /// Starts a task whose result is waited for (Elixir's `async_nolink`, or `async` with a process to link to).
    ///
    /// - Parameters:
    ///   - label: For paths and logs.
    ///   - owner: Linked to the task: a crash of either ends the other.
    ///   - shutdown: How it is stopped when its supervisor is.
    ///   - operation: The work, whose result is the task's. It gets the context of its process.
    public func async<R: Sendable>(
        _ label: String = "task",
        linkedTo owner: Pid? = nil,
        shutdown: Shutdown = .timeout(.seconds(5)),
        _ operation: @escaping @Sendable (ChildContext) async throws -> R
    ) async throws(AdministrationError) -> SupervisedTask<R> {
        let outcome = TaskOutcome<R>()
        let pid = try await dynamic.startChild(
            Child(label, restart: .temporary, shutdown: shutdown) { context in
                // Before the task runs, so that its end is seen however early it comes.
                context.pid.onExit { outcome.finish(.failure($0)) }
                if let owner { owner.link(to: context.pid) }
                return TaskWorker(context, outcome, operation)
            }
        )
        guard let pid else { throw .noProcess(supervisor: dynamic.path) }
        return SupervisedTask(pid: pid, outcome: outcome)
    }

    /// Runs `operation` on each element, at most `maxConcurrency` at a time, and gives the outcomes in the order of the
    /// elements (Elixir's `async_stream_nolink`).
    ///
    /// Nothing runs ahead of the reader but what `maxConcurrency` allows. Tasks that still run when the reader stops reading
    /// are killed when the iterator goes away.
    public func stream<S: Sequence & Sendable, R: Sendable>(
        over elements: S,
        maxConcurrency: Int = 2,
        _ operation: @escaping @Sendable (S.Element) async throws -> R
    ) -> TaskOutcomes<S, R> where S.Element: Sendable {
        TaskOutcomes(tasks: self, elements: elements, maxConcurrency: max(1, maxConcurrency), operation: operation)
    }
}

/// A task under a ``TaskSupervisor``, and its outcome.
public struct SupervisedTask<R: Sendable>: Sendable {
    /// The task's process: kill it, link it, watch it.
    public let pid: Pid
    let outcome: TaskOutcome<R>

    /// What the task returned.
    ///
    /// - Throws: ``CallError/exited(child:_:)`` with the reason when it ended without a result; `CancellationError` when the
    ///   waiting task is cancelled, which leaves the supervised task running.
    public var value: R {
        get async throws {
            switch try await outcome.value() {
            case .success(let value): return value
            case .failure(let reason): throw CallError.exited(child: "\(pid)", reason)
            }
        }
    }

    /// What the task returned, or why it ended without a result.
    public var result: TaskResult<R> {
        get async throws { try await outcome.value() }
    }
}

/// What a supervised task came to.
public enum TaskResult<R: Sendable>: Sendable {
    /// It returned this.
    case success(R)
    /// It ended with this reason.
    case failure(ExitReason)
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

/// The first of result and exit, and who waits for it.
final class TaskOutcome<R: Sendable>: Sendable {
    private struct State {
        var result: TaskResult<R>?
        var lastToken: UInt64 = 0
        var waiters: [UInt64: CheckedContinuation<TaskResult<R>, any Error>] = [:]
        var cancelled: Set<UInt64> = []
    }

    private let state = Mutex(State())

    func finish(_ result: TaskResult<R>) {
        let waiters = state.withLock { state -> [UInt64: CheckedContinuation<TaskResult<R>, any Error>] in
            guard state.result == nil else { return [:] }
            state.result = result
            defer { state.waiters = [:] }
            return state.waiters
        }
        for waiter in waiters.values { waiter.resume(returning: result) }
    }

    func value() async throws -> TaskResult<R> {
        let token = state.withLock { state in
            state.lastToken += 1
            return state.lastToken
        }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let now = state.withLock { state -> Result<TaskResult<R>, any Error>? in
                    if let result = state.result { return .success(result) }
                    if state.cancelled.remove(token) != nil { return .failure(CancellationError()) }
                    state.waiters[token] = continuation
                    return nil
                }
                if let now { continuation.resume(with: now) }
            }
        } onCancel: {
            let waiter = state.withLock { state in
                let waiter = state.waiters.removeValue(forKey: token)
                if waiter == nil, state.result == nil { state.cancelled.insert(token) }
                return waiter
            }
            waiter?.resume(throwing: CancellationError())
        }
    }
}

/// The outcomes of one operation over many elements, in their order.
public struct TaskOutcomes<S: Sequence & Sendable, R: Sendable>: AsyncSequence, Sendable where S.Element: Sendable {
    let tasks: TaskSupervisorReference
    let elements: S
    let maxConcurrency: Int
    let operation: @Sendable (S.Element) async throws -> R

    /// Starts nothing before the first outcome is asked for.
    public func makeAsyncIterator() -> Iterator {
        Iterator(outcomes: self)
    }

    /// Keeps up to `maxConcurrency` tasks running ahead of the reader.
    public final class Iterator: AsyncIteratorProtocol {
        private let outcomes: TaskOutcomes
        private var elements: S.Iterator
        private var running: [SupervisedTask<R>] = []

        init(outcomes: TaskOutcomes) {
            self.outcomes = outcomes
            elements = outcomes.elements.makeIterator()
        }

        deinit {
            for task in running { task.pid.kill() }
        }

        /// The outcome of the next element; `nil` after the last.
        ///
        /// - Throws: ``AdministrationError`` when a task could not be started, `CancellationError`.
        public func next() async throws -> TaskResult<R>? {
            let operation = outcomes.operation
            while running.count < outcomes.maxConcurrency, let element = elements.next() {
                running.append(try await outcomes.tasks.async { _ in try await operation(element) })
            }
            guard let first = running.first else { return nil }
            let result = try await first.result
            running.removeFirst()
            return result
        }
    }
}

extension Supervisor {
    /// A task supervisor in this tree, as a stable reference.
    ///
    /// - Throws: ``CallError/noProcess(child:)`` when the tree has no such child.
    public func taskSupervisor(_ path: String...) throws(CallError) -> TaskSupervisorReference {
        let reference = DynamicSupervisorReference(address: Address(anchor: .root(self), names: path))
        guard isKnown(path) else { throw .noProcess(child: reference.path) }
        return TaskSupervisorReference(dynamic: reference)
    }
}

extension SupervisorReference {
    /// A task supervisor below this one, as a stable reference.
    public func taskSupervisor(_ path: String...) -> TaskSupervisorReference {
        TaskSupervisorReference(
            dynamic: DynamicSupervisorReference(address: Address(anchor: .supervisor(process), names: path))
        )
    }
}

extension ChildrenBuilder {
    /// A nested task supervisor: the description only, made anew for every incarnation.
    public static func buildExpression(_ supervisor: TaskSupervisor) -> [Child] {
        [Child(supervisor: supervisor.dynamic.root.specification)]
    }
}
