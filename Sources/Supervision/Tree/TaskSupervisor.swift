import Logging
import ServiceLifecycle

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
    ///   - options: How it is stopped, when its supervisor is, and how it is restarted and watched.
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

    /// Starts a task whose result is waited for (Elixir's `async_nolink`, or `async` with a process to link to).
    ///
    /// - Parameters:
    ///   - label: For paths and logs.
    ///   - owner: Linked to the task: a crash of either ends the other.
    ///   - options: How it is stopped, when its supervisor is, and how it is restarted and watched.
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
                // Before the task runs, so that its end is seen however early it comes.
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

    /// The tasks that are there now, in no order (Elixir's `children`).
    public func tasks() throws(AdministrationError) -> [Pid] {
        try dynamic.whichChildren().compactMap(\.pid)
    }

    /// Stops a task in order, and does not run it again (Elixir's `terminate_child`).
    ///
    /// - Throws: As ``DynamicSupervisorReference/terminateChild(_:)``.
    public func terminateTask(_ pid: Pid) async throws(AdministrationError) {
        try await dynamic.terminateChild(pid)
    }

    /// Runs `operation` on each element, at most `maximumConcurrency` at a time, and gives each element with what came of it
    /// (Elixir's `async_stream_nolink`).
    ///
    /// A crash is the outcome of its element and hurts no other. Nothing runs ahead of the reader but what `maximumConcurrency`
    /// allows. Tasks that still run when the reader stops reading are killed when the iterator goes away.
    ///
    /// - Parameters:
    ///   - elements: What to work on.
    ///   - maximumConcurrency: How many tasks run at once, at least 1.
    ///   - order: Whether the outcomes come in the order of the elements, or as they come to be.
    ///   - timeout: How long the task of one element may run, by the tree's clock; `nil` for any time.
    ///   - onTimeout: What becomes of the stream when one takes longer. Its task is killed in either case.
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
        [supervisor.dynamic.root.asChild()]
    }
}
