import ConcurrencyPrimitives
import Logging
import ServiceLifecycle
import Synchronization

/// Starts its children in order, watches them, and starts them again by a strategy when they fail: OTP's `supervisor`.
///
///     let supervisor = Supervisor("app", strategy: .oneForOne) {
///         Child("counter") { _ in Counter() }
///         Supervisor("workers", strategy: .restForOne) { ... }
///     }
///     try await supervisor.start()
///     let counter = try supervisor.child("counter", as: Counter.self)
///     try await counter.call { $0.increment() }
///     await supervisor.stop()
///
/// At the top of a tree it is a live thing: ``start()``, ``run()``, ``stop()``. Inside the builder of another supervisor it is
/// a description, of which its parent makes a new incarnation at every start; it cannot be started on its own then.
///
/// It is a `Service`: in a `ServiceGroup` a graceful shutdown stops the children in reverse order, and a tree that gives up
/// throws why.
public final class Supervisor: Service, Sendable {
    private struct State {
        var current: SupervisorProcess?
        /// How an incarnation ended that `start()` had brought up and no `run()` has seen yet.
        var ended: ExitReason?
        /// Why the last incarnation ended, when nobody had asked it to.
        var failure: ExitReason?
        var rootObserver: (@Sendable (RootPhase) -> Void)?
    }

    /// What becomes of a supervisor as the root of its tree.
    package enum RootPhase: Sendable {
        /// An incarnation is about to start.
        case starting
        /// It has ended, or could not start; there is no other one yet.
        case ended(ExitReason)
    }

    let specification: SupervisorSpecification
    let logger: Logger
    let clock: any SupervisionClock
    private let state = Mutex(State())
    private let isPartOfAnotherTree = Atomic(false)

    /// Describes a supervisor; nothing runs before ``start()`` or ``run()``.
    ///
    /// - Parameters:
    ///   - name: Its id among its siblings, and the first part of its children's paths. Not empty, without `/`.
    ///   - strategy: Which siblings are restarted together with a failed child.
    ///   - intensity: How many restarts are allowed within a period, over all children.
    ///   - whenExceeded: What happens when there are more.
    ///   - autoShutdown: Whether the end of significant children ends it.
    ///   - restart: As a child: when its parent starts it again.
    ///   - shutdown: As a child: how its parent stops it. The default gives its children all the time they need.
    ///   - significant: As a child: whether its end counts for its parent's `autoShutdown`.
    ///   - backoff: As a child: how long its parent waits before starting it again.
    ///   - logger: For the whole tree, used at the root; by default one with the label `supervision`.
    ///   - clock: For the whole tree, used at the root.
    ///   - children: The children, in start order.
    public convenience init(
        _ name: String,
        strategy: Strategy = .oneForOne,
        intensity: RestartIntensity = RestartIntensity(3, within: .seconds(5)),
        whenExceeded: WhenExceeded = .escalate,
        autoShutdown: AutoShutdown = .never,
        restart: Restart = .permanent,
        shutdown: Shutdown = .infinity,
        significant: Bool = false,
        backoff: Backoff? = nil,
        logger: Logger? = nil,
        clock: any SupervisionClock = SystemSupervisionClock.shared,
        @ChildrenBuilder children: () -> [Child]
    ) {
        let specification = SupervisorSpecification(
            name: name,
            kind: .ordered(strategy),
            intensity: intensity,
            whenExceeded: whenExceeded,
            autoShutdown: autoShutdown,
            restart: restart,
            shutdown: shutdown,
            isSignificant: significant,
            backoff: backoff,
            children: children()
        )
        self.init(specification, logger: logger, clock: clock)
    }

    init(_ specification: SupervisorSpecification, logger: Logger?, clock: any SupervisionClock) {
        self.specification = specification
        self.logger = logger ?? Logger(label: "supervision")
        self.clock = clock
    }

    var current: SupervisorProcess? { state.withLock { $0.current } }

    /// A child in another's builder: the description only, made anew for every incarnation. From here on it is no tree of its own.
    func asChild() -> Child {
        isPartOfAnotherTree.store(true, ordering: .relaxed)
        return Child(supervisor: specification)
    }

    /// Why the last incarnation ended, when nobody had asked it to.
    var failure: ExitReason? { state.withLock { $0.failure } }

    /// The identity of the running incarnation, `nil` before the start and after the end.
    public var pid: Pid? { current.map { Pid(process: $0.process) } }

    /// Starts the children one after another and returns when all are up.
    ///
    /// A start is given up when the calling task is cancelled, or is part of a `ServiceGroup` that is shut down gracefully: what
    /// has started by then is stopped in reverse.
    ///
    /// - Throws: ``SupervisionError/invalidSpecification(_:)`` before anything is started;
    ///   ``SupervisionError/failedToStart(child:reason:)`` when a child fails, after those started before it have been stopped
    ///   in reverse; ``SupervisionError/alreadyStarted(supervisor:)``; ``SupervisionError/partOfAnotherTree(supervisor:)`` when it
    ///   was named in another's builder, which starts it; `CancellationError` when the start was given up, after
    ///   the tree has been stopped.
    public func start() async throws {
        let process = try makeProcess()
        let isGivenUp = Atomic(false)
        let giveUp: @Sendable () -> Void = {
            isGivenUp.store(true, ordering: .releasing)
            process.receive(.exit(.shutdown(cause: CancellationError())))
        }
        let isUp = await withTaskCancellationHandler {
            await withGracefulShutdownHandler {
                await process.boot()
            } onGracefulShutdown: {
                giveUp()
            }
        } onCancel: {
            giveUp()
        }
        // What counts is whether the tree was asked to end, not whether the task is cancelled by now: a tree that nobody asked
        // does not end.
        if isUp, !isGivenUp.load(ordering: .acquiring) { return }
        let reason = await process.process.ended()
        throw reason.error ?? SupervisionError.exited(reason)
    }

    /// Why it cannot be started as the root of a tree, if it cannot.
    private var startProblem: SupervisionError? {
        if isPartOfAnotherTree.load(ordering: .relaxed) { return .partOfAnotherTree(supervisor: specification.name) }
        return specification.problem.map(SupervisionError.invalidSpecification)
    }

    /// The next incarnation, which has not begun to start.
    private func makeProcess() throws(SupervisionError) -> SupervisorProcess {
        if let error = startProblem {
            state.withLock { $0.rootObserver }?(.ended(.shutdown(cause: error)))
            throw error
        }
        let process = SupervisorProcess(
            specification,
            link: nil,
            environment: TreeEnvironment(
                clock: clock,
                logger: logger,
                metrics: SupervisionMetrics(tree: specification.name)
            )
        )
        let isFree = state.withLock { state in
            guard state.current == nil else { return false }
            state.current = process
            state.ended = nil
            state.failure = nil
            return true
        }
        guard isFree else {
            process.discard()
            throw .alreadyStarted(supervisor: specification.name)
        }
        let observer = state.withLock { $0.rootObserver }
        observer?(.starting)
        _ = process.process.addCleanup { [weak self, weak process] reason in
            guard let self, current === process else { return }
            // Before there can be another one, so that phases come in their order.
            observer?(.ended(reason))
            state.withLock { state in
                state.current = nil
                state.ended = reason
                state.failure = reason.isAbnormal || reason.error != nil ? reason : nil
            }
        }
        return process
    }

    /// Tells what becomes of this supervisor as the root of a tree, in order. There is one observer: whoever made it.
    package func onRootPhase(_ observer: @escaping @Sendable (RootPhase) -> Void) {
        state.withLock { $0.rootObserver = observer }
    }

    /// Stops the children in reverse start order, then the supervisor, and returns when that is done. Does nothing when it is
    /// not running.
    ///
    /// - Returns: What would not stop and was left behind, now or earlier: empty when all is well.
    @discardableResult
    public func stop() async -> [AbandonedChild] {
        guard let process = current else { return [] }
        process.receive(.exit(.shutdown()))
        _ = await process.process.ended()
        // Asked for, so a later run() starts anew instead of reporting it.
        state.withLock { $0.ended = nil }
        return process.environment.zombies.list(at: process.environment.clock.now)
    }

    /// Tasks of this tree that ignored their cancellation, were left behind, and still run.
    public var abandonedChildren: [AbandonedChild] {
        guard let environment = current?.environment else { return [] }
        return environment.zombies.list(at: environment.clock.now)
    }

    /// Runs the tree until it ends: starts it, unless ``start()`` has been called, and waits. When the tree that `start()`
    /// brought up has ended meanwhile, throws or returns at once.
    ///
    /// A graceful shutdown of the surrounding `ServiceGroup`, or the cancellation of the task, stops the tree in order and
    /// `run()` returns, also while children are still starting; a cancellation during a graceful shutdown kills what has not
    /// ended by then.
    ///
    /// - Throws: ``SupervisionError/invalidSpecification(_:)``, ``SupervisionError/alreadyStarted(supervisor:)`` and
    ///   ``SupervisionError/partOfAnotherTree(supervisor:)``, as ``start()``. When the tree ends without having been asked to: the cause that its exit carries, for example
    ///   ``SupervisionError/failedToStart(child:reason:)`` or
    ///   ``SupervisionError/intensityExceeded(supervisor:child:lastReason:)``, or else ``SupervisionError/exited(_:)``.
    public func run() async throws {
        let (current, ended) = state.withLock { state in
            defer { state.ended = nil }
            return (state.current, state.ended)
        }
        if current == nil, let ended { return try Supervisor.throwCause(of: ended) }
        let process = if let current { current } else { try makeProcess() }
        let isAsked = Atomic(false)
        let reason = await withTaskCancellationHandler {
            await withGracefulShutdownHandler {
                if current == nil { _ = await process.boot() }
                return await process.process.ended()
            } onGracefulShutdown: {
                isAsked.store(true, ordering: .releasing)
                process.receive(.exit(.shutdown()))
            }
        } onCancel: {
            let wasAsked = isAsked.exchange(true, ordering: .acquiringAndReleasing)
            process.receive(wasAsked ? .kill : .exit(.shutdown()))
        }
        state.withLock { $0.ended = nil }
        if !isAsked.load(ordering: .acquiring) { try Supervisor.throwCause(of: reason) }
    }

    private static func throwCause(of reason: ExitReason) throws {
        switch reason {
        case .normal, .shutdown(nil): return
        case .shutdown(let cause?): throw cause
        case .killed, .crashed, .noProcess: throw SupervisionError.exited(reason)
        }
    }

    /// A child, or with several names a descendant, as a stable reference.
    ///
    /// - Throws: ``CallError/noProcess(child:)`` when the tree has no such child.
    public func child<A: Actor>(_ path: String..., as type: A.Type = A.self) throws -> ChildReference<A> {
        let reference = ChildReference<A>(address: Address(anchor: .root(self), names: path))
        if isKnown(path) { return reference }
        throw CallError.noProcess(child: reference.path)
    }

    /// Whether the description or the running tree has such a child.
    func isKnown(_ path: [String]) -> Bool {
        var children = specification.children
        var live = current
        for (index, name) in path.enumerated() {
            let described = children.first { $0.id == name }
            guard described != nil || live?.hasChild(name) == true else { return false }
            guard index < path.count - 1 else { return true }
            if case .supervisor(let next)? = live?.lookUp(name) { live = next } else { live = nil }
            if case .supervisor(let next)? = described?.specification.kind {
                children = next.children
            } else {
                children = []
            }
        }
        return false
    }

    /// The tree as it is now; before the start and after the end its root is shown as stopped.
    public func tree() -> SupervisionTree {
        current?.tree()
            ?? SupervisionTree(
                name: specification.name,
                path: specification.name,
                kind: specification.treeKind,
                status: .stopped,
                pid: nil,
                age: nil,
                restarts: 0,
                lastExit: nil,
                abandoned: 0,
                children: []
            )
    }

    /// What happens in the tree from now on, until it ends. Each use is a sequence of its own. Empty when it is not running.
    public var events: SupervisionEvents {
        guard let current else {
            let hub = EventHub()
            hub.finish()
            return hub.subscribe()
        }
        return current.environment.events.subscribe()
    }
}

extension Supervisor {
    /// What happens in the running tree from now on, as far as it is of interest; `nil` when it is not running.
    package func events(_ interest: EventInterest) -> SupervisionEvents? {
        current?.environment.events.subscribe(interest)
    }
}
