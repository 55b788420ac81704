import ConcurrencyPrimitives
import Logging
import ServiceLifecycle

/// Supervises children that are started and stopped at run time: Elixir's `DynamicSupervisor`.
///
///     Supervisor("app") {
///         DynamicSupervisor("sessions", maximumChildren: 10_000)
///     }
///     let sessions = try supervisor.dynamicSupervisor("sessions")
///     let session = try await sessions.startChild(Child("session") { context in Session(context) }, as: Session.self)
///
/// Its children have no order and no unique ids. They are started, restarted and stopped concurrently: a slow start delays no other child,
/// and a shutdown takes as long as the slowest child. A temporary child that has ended leaves nothing behind. Like ``Supervisor`` it runs
/// at the top of a tree, and is a description inside another supervisor's builder.
public final class DynamicSupervisor: Service, Sendable {
    let root: Supervisor

    /// Describes a dynamic supervisor, which starts without children.
    ///
    /// - Parameters:
    ///   - name: Its id among its siblings, and the first component of its children's paths. Not empty, without `/`.
    ///   - maximumChildren: The maximum number of children, including those that are being restarted; `nil` for no limit.
    ///   - intensity: How many restarts are allowed within a period, counted over all children.
    ///   - whenExceeded: What happens when the intensity is exceeded.
    ///   - restart: As a child: when its parent restarts it.
    ///   - shutdown: As a child: how its parent stops it. By default its children have unlimited time.
    ///   - significant: As a child: whether its end counts for its parent's `autoShutdown`.
    ///   - backoff: As a child: how long its parent waits before it restarts it.
    ///   - logger: The logger of the whole tree, used at the root; by default one with the label `supervision`.
    ///   - clock: The clock of the whole tree, used at the root.
    public init(
        _ name: String,
        maximumChildren: Int? = nil,
        intensity: RestartIntensity = RestartIntensity(3, within: .seconds(5)),
        whenExceeded: WhenExceeded = .escalate,
        restart: Restart = .permanent,
        shutdown: Shutdown = .infinity,
        significant: Bool = false,
        backoff: Backoff? = nil,
        logger: Logger? = nil,
        clock: any SupervisionClock = SystemSupervisionClock.shared
    ) {
        root = Supervisor(
            SupervisorSpecification(
                name: name,
                kind: .dynamic(maximumChildren: maximumChildren),
                intensity: intensity,
                whenExceeded: whenExceeded,
                autoShutdown: .never,
                restart: restart,
                shutdown: shutdown,
                isSignificant: significant,
                backoff: backoff,
                children: []
            ),
            logger: logger,
            clock: clock
        )
    }

    /// Starts the supervisor, without children.
    public func start() async throws { try await root.start() }

    /// Stops all children concurrently, and returns when they have ended.
    public func stop() async { await root.stop() }

    /// Runs the supervisor until it ends, like ``Supervisor/run()``.
    public func run() async throws { try await root.run() }

    /// A snapshot of the tree.
    public func tree() -> SupervisionTree { root.tree() }

    /// The events of the children from now on.
    public var events: SupervisionEvents { root.events }

    /// A stable reference for starting children.
    public var reference: DynamicSupervisorReference {
        DynamicSupervisorReference(address: Address(anchor: .root(root), names: []))
    }
}

/// A dynamic supervisor by its position in the tree: it stays valid across restarts, and is resolved at each use.
public struct DynamicSupervisorReference: Sendable {
    let address: Address

    /// The names from the tree's root down, separated by `/`.
    public var path: String { address.path }

    /// Starts a child and returns a stable reference to it, or `nil` when the start closure returned `nil`.
    ///
    /// Waits until the child's start closure has returned, concurrently with other starts. Cancelling the calling task does not stop the
    /// child: terminate it if it is not needed.
    ///
    /// - Parameters:
    ///   - child: Its specification; the id is a label for paths and logs and need not be unique. The reference of a permanent or transient
    ///     child stays valid across restarts; the pid changes.
    ///   - type: The type of its actor.
    /// - Throws: ``AdministrationError``: ``AdministrationError/tooManyChildren(supervisor:)`` at the limit;
    ///   ``AdministrationError/startFailed(child:_:)`` when the start closure threw, and the child is removed.
    public func startChild<A: Actor>(
        _ child: Child,
        as type: A.Type = A.self
    ) async throws(AdministrationError) -> ChildReference<A>? {
        reference(child.specification, try await start(child.specification))
    }

    /// Starts a child of a template and returns a stable reference to it, or `nil` when the start closure returned `nil`.
    ///
    /// As with a ``Child``, but the common part of the template's children is stored once, and only `argument` per child.
    public func startChild<Argument, A: Actor>(
        _ template: ChildTemplate<Argument, A>,
        with argument: Argument
    ) async throws(AdministrationError) -> ChildReference<A>? {
        let specification = template.specification
        return reference(specification, try await start(specification, with: ChildArgument(argument)))
    }

    /// Starts a child and returns its process, or `nil` when the start closure returned `nil`.
    @discardableResult
    public func startChild(_ child: Child) async throws(AdministrationError) -> Pid? {
        try await start(child.specification).1?.pid
    }

    /// Stops the child that has this pid (or had it before a restart that is under way), and does not restart it.
    ///
    /// - Throws: ``AdministrationError/notFound(child:)`` when this is not a child of this supervisor, or it has ended for good.
    public func terminateChild(_ pid: Pid) async throws(AdministrationError) {
        try await SupervisorReference(process: try resolve()).terminateChild(pid)
    }

    /// The children, in no order. Returns immediately.
    public func whichChildren() throws(AdministrationError) -> [ChildInfo] {
        SupervisorReference(process: try resolve()).whichChildren()
    }

    /// The number of children. Returns immediately.
    public func countChildren() throws(AdministrationError) -> ChildCounts {
        SupervisorReference(process: try resolve()).countChildren()
    }

    private func start(
        _ child: ChildSpecification,
        with argument: (any AnyObject & Sendable)? = nil
    ) async throws(AdministrationError) -> (SupervisorProcess, AdministeredChild?) {
        let process = try resolve()
        if let problem = child.problemInTree(under: process.specification) { throw .invalidSpecification(problem) }
        let (reply, administered) = await process.administer(.startChild(child), bringing: child, with: argument)
        try process.check(reply, child.id)
        return (process, administered)
    }

    private func reference<A: Actor>(
        _ child: ChildSpecification,
        _ started: (SupervisorProcess, AdministeredChild?)
    ) -> ChildReference<A>? {
        let (process, administered) = started
        guard let administered else { return nil }
        let place = Address.Anchor.dynamic(process, administered.slot, entry: administered.entry, child)
        return ChildReference(address: Address(anchor: place, names: []))
    }

    private func resolve() throws(AdministrationError) -> SupervisorProcess {
        guard let process = try? address.supervisor() else { throw .noProcess(supervisor: path) }
        return process
    }
}

extension Supervisor {
    /// A stable reference to a dynamic supervisor in this tree.
    ///
    /// - Throws: ``CallError/noProcess(child:)`` when the tree has no such child.
    public func dynamicSupervisor(_ path: String...) throws(CallError) -> DynamicSupervisorReference {
        let reference = DynamicSupervisorReference(address: Address(anchor: .root(self), names: path))
        guard isKnown(path) else { throw .noProcess(child: reference.path) }
        return reference
    }
}

extension SupervisorReference {
    /// A stable reference to a dynamic supervisor below this one.
    public func dynamicSupervisor(_ path: String...) -> DynamicSupervisorReference {
        DynamicSupervisorReference(address: Address(anchor: .supervisor(process), names: path))
    }
}

extension ChildrenBuilder {
    /// A nested dynamic supervisor. Only its description is used, for a new instance at every start.
    public static func buildExpression(_ supervisor: DynamicSupervisor) -> [Child] {
        [supervisor.root.asChild()]
    }
}
