import ConcurrencyPrimitives
import Logging
import ServiceLifecycle
import Synchronization

/// Starts its children in order, monitors them, and restarts them according to a strategy when they fail: OTP's `supervisor`.
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
/// At the top of a tree it runs by itself: ``start()``, ``run()``, ``stop()``. Inside the builder of another supervisor it is a
/// description, from which the parent creates a new incarnation at every start; it cannot be started on its own then.
///
/// It is a `Service`: in a `ServiceGroup` a graceful shutdown stops the children in reverse order, and a tree that gives up throws the
/// cause.
public final class Supervisor: Service, Sendable {
    private struct State {
        var current: SupervisorProcess?
        /// How an incarnation ended that was started by `start()`, until `run()` reports it.
        var ended: ExitReason?
        /// Why the last incarnation ended without having been asked to.
        var failure: ExitReason?
        var rootObserver: (@Sendable (RootPhase) -> Void)?
    }

    /// A change in the life of a supervisor that is the root of its tree.
    package enum RootPhase: Sendable {
        /// An incarnation is about to start.
        case starting
        /// It has ended, or failed to start; no other incarnation exists yet.
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
    ///   - name: Its id among its siblings, and the first component of its children's paths. Not empty, without `/`.
    ///   - strategy: Which siblings are restarted together with a failed child.
    ///   - intensity: How many restarts are allowed within a period, counted over all children.
    ///   - whenExceeded: What happens when the intensity is exceeded.
    ///   - autoShutdown: Whether the end of significant children shuts it down.
    ///   - restart: As a child: when its parent restarts it.
    ///   - shutdown: As a child: how its parent stops it. By default its children have unlimited time.
    ///   - significant: As a child: whether its end counts for its parent's `autoShutdown`.
    ///   - backoff: As a child: how long its parent waits before it restarts it.
    ///   - logger: The logger of the whole tree, used at the root; by default one with the label `supervision`.
    ///   - clock: The clock of the whole tree, used at the root.
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

    /// A child for another supervisor's builder. Only the description is used, for a new instance at every start. From here on the
    /// supervisor cannot be started on its own.
    func asChild() -> Child {
        isPartOfAnotherTree.store(true, ordering: .relaxed)
        return Child(supervisor: specification)
    }

    /// Why the last incarnation ended without having been asked to.
    var failure: ExitReason? { state.withLock { $0.failure } }

    /// The identity of the running incarnation, `nil` before the start and after the end.
    public var pid: Pid? { current.map { Pid(process: $0.process) } }

    /// Starts the children one after another and returns when all are running.
    ///
    /// The start is abandoned when the calling task is cancelled, or belongs to a `ServiceGroup` that is shut down gracefully: the children
    /// started by then are stopped in reverse order.
    ///
    /// - Throws: ``SupervisionError/invalidSpecification(_:)`` before anything is started;
    ///   ``SupervisionError/failedToStart(child:reason:)`` when a child fails, after the children started before it have been stopped in
    ///   reverse order; ``SupervisionError/alreadyStarted(supervisor:)``; ``SupervisionError/partOfAnotherTree(supervisor:)`` when it is
    ///   listed in another supervisor's builder, which starts it; `CancellationError` when the start was abandoned, after the tree has been
    ///   stopped.
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
        // What counts is whether the tree was asked to stop, not whether the task has been cancelled by now: a tree that was not asked
        // keeps running.
        if isUp, !isGivenUp.load(ordering: .acquiring) { return }
        let reason = await process.process.ended()
        throw reason.error ?? SupervisionError.exited(reason)
    }

    /// Why it cannot be started as the root of a tree, `nil` if it can.
    private var startProblem: SupervisionError? {
        if isPartOfAnotherTree.load(ordering: .relaxed) { return .partOfAnotherTree(supervisor: specification.name) }
        return specification.problem.map(SupervisionError.invalidSpecification)
    }

    /// Creates the next incarnation, without starting it.
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
            // Before another incarnation can exist, so that phases arrive in order.
            observer?(.ended(reason))
            state.withLock { state in
                state.current = nil
                state.ended = reason
                state.failure = reason.isAbnormal || reason.error != nil ? reason : nil
            }
        }
        return process
    }

    /// Reports the life phases of this supervisor as the root of a tree, in order. There is one observer, set by the creator.
    package func onRootPhase(_ observer: @escaping @Sendable (RootPhase) -> Void) {
        state.withLock { $0.rootObserver = observer }
    }

    /// Stops the children in reverse start order, then the supervisor, and returns when that is done. Does nothing when it is not running.
    ///
    /// - Returns: The children that ignored their cancellation and are still running, including earlier ones; empty when there are none.
    @discardableResult
    public func stop() async -> [AbandonedChild] {
        guard let process = current else { return [] }
        process.receive(.exit(.shutdown()))
        _ = await process.process.ended()
        // The stop was asked for, so a later `run()` starts again instead of reporting it.
        state.withLock { $0.ended = nil }
        return process.environment.zombies.list(at: process.environment.clock.now)
    }

    /// Tasks of this tree that ignored their cancellation, were abandoned, and are still running.
    public var abandonedChildren: [AbandonedChild] {
        guard let environment = current?.environment else { return [] }
        return environment.zombies.list(at: environment.clock.now)
    }

    /// Runs the tree until it ends: starts it, unless ``start()`` has been called, and waits. If the tree that `start()` started has
    /// already ended, it throws or returns immediately.
    ///
    /// A graceful shutdown of the surrounding `ServiceGroup`, or the cancellation of the task, stops the tree in order and `run()` returns,
    /// even while children are still starting; a cancellation during a graceful shutdown kills whatever has not ended by then.
    ///
    /// - Throws: ``SupervisionError/invalidSpecification(_:)``, ``SupervisionError/alreadyStarted(supervisor:)`` and
    ///   ``SupervisionError/partOfAnotherTree(supervisor:)``, like ``start()``. When the tree ends without having been asked to: the cause
    ///   in its exit reason, for example ``SupervisionError/failedToStart(child:reason:)`` or
    ///   ``SupervisionError/intensityExceeded(supervisor:child:lastReason:)``, otherwise ``SupervisionError/exited(_:)``.
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

    /// A stable reference to a child, or with several names to a descendant.
    ///
    /// - Throws: ``CallError/noProcess(child:)`` when the tree has no such child.
    public func child<A: Actor>(_ path: String..., as type: A.Type = A.self) throws -> ChildReference<A> {
        let reference = ChildReference<A>(address: Address(anchor: .root(self), names: path))
        if isKnown(path) { return reference }
        throw CallError.noProcess(child: reference.path)
    }

    /// Whether the description or the running tree has this child.
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

    /// A snapshot of the tree; before the start and after the end its root is shown as stopped.
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

    /// The events of the tree from now on, until it ends. Each access creates a separate sequence. Empty when the tree is not running.
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
    /// The events of the running tree from now on that match the interest; `nil` when the tree is not running.
    package func events(_ interest: EventInterest) -> SupervisionEvents? {
        current?.environment.events.subscribe(interest)
    }
}
