import Logging
import ServiceLifecycle

/// Supervises tasks that run once: Elixir's `Task.Supervisor`.
///
///     let tasks = try supervisor.taskSupervisor("tasks")
///     let sum = try await tasks.async { _ in try await heavySum() }
///     print(try await sum.value)
///
/// A task is a temporary child: its crash is reported, affects no other task, and leaves nothing behind.
public final class TaskSupervisor: Service, Sendable {
    let dynamic: DynamicSupervisor

    /// Describes a task supervisor. The parameters are those of ``DynamicSupervisor``.
    public init(
        _ name: String,
        maximumChildren: Int? = nil,
        restart: Restart = .permanent,
        shutdown: Shutdown = .infinity,
        logger: Logger? = nil,
        clock: any SupervisionClock = SystemSupervisionClock.shared
    ) {
        dynamic = DynamicSupervisor(
            name,
            maximumChildren: maximumChildren,
            restart: restart,
            shutdown: shutdown,
            logger: logger,
            clock: clock
        )
    }

    /// Starts the supervisor, without tasks.
    public func start() async throws { try await dynamic.start() }

    /// Stops all tasks concurrently, and returns when they have ended.
    public func stop() async { await dynamic.stop() }

    /// Runs the supervisor until it ends, like ``Supervisor/run()``.
    public func run() async throws { try await dynamic.run() }

    /// A stable reference for starting tasks.
    public var reference: TaskSupervisorReference { TaskSupervisorReference(dynamic: dynamic.reference) }
}

/// A task supervisor by its position in the tree: it stays valid across restarts, and is resolved at each use.
public struct TaskSupervisorReference: Sendable {
    let dynamic: DynamicSupervisorReference

    /// Starts a task without a result (Elixir's `start_child`).
    ///
    /// - Parameters:
    ///   - label: The label in paths and logs.
    ///   - restart: When the task is run again; a transient task runs again after a crash.
    ///   - options: How it is stopped with its supervisor, restarted and monitored.
    ///   - operation: The work. It gets the context of its process.
    @discardableResult
    public func startTask(
        _ label: String = "task",
        restart: Restart = .temporary,
        options: ChildOptions = ChildOptions(),
        _ operation: @escaping @Sendable (ChildContext) async throws -> Void
    ) async throws(AdministrationError) -> Pid? {
        try await dynamic.startChild(
            .task(label, restart: restart, options: options, operation)
        )
    }

    /// Starts a task with a result (Elixir's `async_nolink`, or `async` with an owner to link to).
    ///
    /// - Parameters:
    ///   - label: The label in paths and logs.
    ///   - owner: A process to link to the task: a crash of either ends the other.
    ///   - options: How it is stopped with its supervisor, restarted and monitored.
    ///   - operation: The work, whose result is the task's. It gets the context of its process.
    public func async<R: Sendable>(
        _ label: String = "task",
        linkedTo owner: Pid? = nil,
        options: ChildOptions = ChildOptions(),
        _ operation: @escaping @Sendable (ChildContext) async throws -> R
    ) async throws(AdministrationError) -> SupervisedTask<R> {
        try await start(label, linkedTo: owner, options: options, TaskOutcome<R>(), operation)
    }

    func start<R: Sendable>(
        _ label: String,
        linkedTo owner: Pid?,
        options: ChildOptions,
        _ outcome: TaskOutcome<R>,
        _ operation: @escaping @Sendable (ChildContext) async throws -> R
    ) async throws(AdministrationError) -> SupervisedTask<R> {
        let pid = try await dynamic.startChild(
            Child(label, restart: .temporary, options: options) { context in
                // Registered before the task runs, so that an early end is not missed.
                context.pid.onExit { outcome.finish(.failure($0)) }
                if let owner { owner.link(to: context.pid) }
                return TaskWorker(context, outcome, operation)
            }
        )
        guard let pid else { throw .noProcess(supervisor: dynamic.path) }
        return SupervisedTask(pid: pid, outcome: outcome, clock: clock)
    }

    var clock: any SupervisionClock {
        (try? dynamic.address.supervisor().environment.clock) ?? SystemSupervisionClock.shared
    }

    /// The current tasks, in no order (Elixir's `children`).
    public func tasks() throws(AdministrationError) -> [Pid] {
        try dynamic.whichChildren().compactMap(\.pid)
    }

    /// Stops a task in order, and does not run it again (Elixir's `terminate_child`).
    ///
    /// - Throws: The same errors as ``DynamicSupervisorReference/terminateChild(_:)``.
    public func terminateTask(_ pid: Pid) async throws(AdministrationError) {
        try await dynamic.terminateChild(pid)
    }

    /// Runs `operation` on each element, at most `maximumConcurrency` at a time, and delivers each element with its result (Elixir's
    /// `async_stream_nolink`).
    ///
    /// A crash is the result of its element and affects no other. At most `maximumConcurrency` tasks run ahead of the reader. When the
    /// reader stops, the tasks that are still running are killed with the release of the iterator.
    ///
    /// - Parameters:
    ///   - elements: The elements.
    ///   - maximumConcurrency: The maximum number of concurrent tasks, at least 1.
    ///   - order: Whether results are delivered in the order of the elements or of completion.
    ///   - timeout: The time limit for the task of one element, by the tree's clock; `nil` for no limit.
    ///   - onTimeout: What happens to the stream when a task exceeds the limit. The task is killed in either case.
    ///   - operation: The work on one element.
    public func stream<S: Sequence & Sendable, R: Sendable>(
        over elements: S,
        maximumConcurrency: Int = 2,
        order: TaskOrder = .ofElements,
        timeout: Duration? = nil,
        onTimeout: OnTaskTimeout = .fail,
        _ operation: @escaping @Sendable (S.Element) async throws -> R
    ) -> TaskOutcomes<S, R> where S.Element: Sendable {
        TaskOutcomes(
            tasks: self,
            elements: elements,
            maximumConcurrency: max(1, maximumConcurrency),
            order: order,
            timeout: timeout,
            onTimeout: onTimeout,
            operation: operation
        )
    }
}

extension Supervisor {
    /// A stable reference to a task supervisor in this tree.
    ///
    /// - Throws: ``CallError/noProcess(child:)`` when the tree has no such child.
    public func taskSupervisor(_ path: String...) throws(CallError) -> TaskSupervisorReference {
        let reference = DynamicSupervisorReference(address: Address(anchor: .root(self), names: path))
        guard isKnown(path) else { throw .noProcess(child: reference.path) }
        return TaskSupervisorReference(dynamic: reference)
    }
}

extension SupervisorReference {
    /// A stable reference to a task supervisor below this one.
    public func taskSupervisor(_ path: String...) -> TaskSupervisorReference {
        TaskSupervisorReference(
            dynamic: DynamicSupervisorReference(address: Address(anchor: .supervisor(process), names: path))
        )
    }
}

extension ChildrenBuilder {
    /// A nested task supervisor. Only its description is used, for a new instance at every start.
    public static func buildExpression(_ supervisor: TaskSupervisor) -> [Child] {
        [supervisor.dynamic.root.asChild()]
    }
}
