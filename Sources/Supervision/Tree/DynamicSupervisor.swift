import ConcurrencyPrimitives
import Logging
import ServiceLifecycle

/// Supervises children that come and go at run time: Elixir's `DynamicSupervisor`.
///
///     Supervisor("app") {
///         DynamicSupervisor("sessions", maximumChildren: 10_000)
///     }
///     let sessions = try supervisor.dynamicSupervisor("sessions")
///     let session = try await sessions.startChild(Child("session") { context in Session(context) }, as: Session.self)
///
/// Its children have no order and no ids. They are started, restarted and stopped side by side: a start that takes long holds
/// up nobody, and stopping takes as long as the slowest child, not as the sum. A temporary child that has ended leaves nothing
/// behind. Like ``Supervisor`` it is live at the top of a tree and a description inside another's builder.
public final class DynamicSupervisor: Service, Sendable {
    let root: Supervisor

    /// Describes a dynamic supervisor, which starts without children.
    ///
    /// - Parameters:
    ///   - name: Its id among its siblings, and the first part of its children's paths. Not empty, without `/`.
    ///   - maximumChildren: How many children there may be at once, those that are being restarted included; `nil` for any number.
    ///   - intensity: How many restarts are allowed within a period, over all children.
    ///   - whenExceeded: What happens when there are more.
    ///   - restart: As a child: when its parent starts it again.
    ///   - shutdown: As a child: how its parent stops it. The default gives its children all the time they need.
    ///   - significant: As a child: whether its end counts for its parent's `autoShutdown`.
    ///   - backoff: As a child: how long its parent waits before starting it again.
    ///   - logger: For the whole tree, used at the root; by default one with the label `supervision`.
    ///   - clock: For the whole tree, used at the root.
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

    /// Starts it, without children.
    public func start() async throws { try await root.start() }

    /// Stops all children side by side, and returns when they have ended.
    public func stop() async { await root.stop() }

    /// Runs it until it ends, as ``Supervisor/run()``.
    public func run() async throws { try await root.run() }

    /// The tree as it is now.
    public func tree() -> SupervisionTree { root.tree() }

    /// What happens to the children from now on.
    public var events: SupervisionEvents { root.events }

    /// The stable reference through which children are started.
    public var reference: DynamicSupervisorReference {
        DynamicSupervisorReference(address: Address(anchor: .root(root), names: []))
    }
}

/// A dynamic supervisor by its place in the tree: stays valid across restarts, and is resolved at each use.
public struct DynamicSupervisorReference: Sendable {
    let address: Address

    /// The names from the tree's root down, separated by `/`.
    public var path: String { address.path }

    /// Starts a child and returns a stable reference to it, or `nil` when the start closure returned `nil`.
    ///
    /// Waits until the child's start closure has returned; other starts go on meanwhile. When the calling task is cancelled
    /// the child is not: terminate it when nobody wants it any more.
    ///
    /// - Parameters:
    ///   - child: Its specification; the id is a label for paths and logs and need not be unique. A permanent or transient
    ///     child keeps its reference when it is restarted, and gets a new pid.
    ///   - type: The type of its actor.
    /// - Throws: ``AdministrationError``: ``AdministrationError/tooManyChildren(supervisor:)`` at the limit,
    ///   ``AdministrationError/startFailed(child:_:)`` when the start closure threw, and the child is forgotten.
    public func startChild<A: Actor>(
        _ child: Child,
        as type: A.Type = A.self
    ) async throws(AdministrationError) -> ChildReference<A>? {
        reference(child.specification, try await start(child.specification))
    }

    /// Starts a child of a template and returns a stable reference to it, or `nil` when the start closure returned `nil`.
    ///
    /// The same as with a ``Child``; what all children of the template have in common is kept once for all of them, and only
    /// `argument` for each.
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

    /// Stops the child that has (or, while it is being restarted, had) this pid, and does not restart it.
    ///
    /// - Throws: ``AdministrationError/notFound(child:)`` when it is no child of this supervisor, or has ended for good.
    public func terminateChild(_ pid: Pid) async throws(AdministrationError) {
        try await SupervisorReference(process: try resolve()).terminateChild(pid)
    }

    /// The children, in no order. Answers at once.
    public func whichChildren() throws(AdministrationError) -> [ChildInfo] {
        SupervisorReference(process: try resolve()).whichChildren()
    }

    /// How many children there are. Answers at once.
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
    /// A dynamic supervisor in this tree, as a stable reference.
    ///
    /// - Throws: ``CallError/noProcess(child:)`` when the tree has no such child.
    public func dynamicSupervisor(_ path: String...) throws(CallError) -> DynamicSupervisorReference {
        let reference = DynamicSupervisorReference(address: Address(anchor: .root(self), names: path))
        guard isKnown(path) else { throw .noProcess(child: reference.path) }
        return reference
    }
}

extension SupervisorReference {
    /// A dynamic supervisor below this one, as a stable reference.
    public func dynamicSupervisor(_ path: String...) -> DynamicSupervisorReference {
        DynamicSupervisorReference(address: Address(anchor: .supervisor(process), names: path))
    }
}

extension ChildrenBuilder {
    /// A nested dynamic supervisor: the description only, made anew for every incarnation.
    public static func buildExpression(_ supervisor: DynamicSupervisor) -> [Child] {
        [supervisor.root.asChild()]
    }
}
