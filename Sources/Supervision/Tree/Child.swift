import ConcurrencyPrimitives
import Logging
import ServiceLifecycle

/// The specification of one child: how it is started, when it is started again and how it is stopped (OTP's child spec).
///
///     Supervisor("app") {
///         Child("counter") { _ in Counter() }
///         Child("flusher", restart: .transient) { context in Flusher(context) }
///     }
///
/// The start closure runs for every incarnation; an object never runs twice. Children start one after another: the next only
/// when the closure before has returned. Returning `nil` is OTP's `ignore`: no process, the specification is kept (that of a
/// temporary child is dropped). Throwing fails the start: at boot the whole tree, later one attempt of a restart.
public struct Child: Sendable {
    let specification: ChildSpecification

    /// Unique among its siblings; the last part of its path.
    public var id: String { specification.id }

    /// A child that is any actor.
    ///
    /// - Parameters:
    ///   - id: Unique among the siblings, not empty, without `/`.
    ///   - restart: When it is started again.
    ///   - options: How it is stopped, restarted and watched.
    ///   - onKill: Closes what a killed or abandoned incarnation holds open. It runs outside the actor, and is waited for at
    ///     most ``ChildOptions/killTimeout`` before the exit is announced.
    ///   - start: Makes an incarnation.
    public init<A: Actor>(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        onKill: (@Sendable (A) async -> Void)? = nil,
        start: @escaping @Sendable (ChildContext) async throws -> A?
    ) {
        self.init(
            id,
            restart,
            options,
            ChildSpecification.Body(
                type: A.self,
                start: .inTask(start),
                onKill: ChildSpecification.Body.erase(onKill)
            )
        )
    }

    /// A child that is a ``Worker``: its `run()` is its life. The parameters are those of the initializer for any actor.
    public init<W: Worker>(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        onKill: (@Sendable (W) async -> Void)? = nil,
        start: @escaping @Sendable (ChildContext) async throws -> W?
    ) {
        self.init(id, restart, options, .worker(start, onKill: onKill))
    }

    /// A child that is a `Service` of swift-service-lifecycle, made anew for each incarnation.
    ///
    /// It runs in a `ServiceGroup` of its own, so that it alone can be shut down gracefully; it is asked first and cancelled
    /// when ``ChildOptions/shutdown`` says so. The other parameters are those of the initializer for any actor.
    public init<S: Service>(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        start: @escaping @Sendable (ChildContext) async throws -> S?
    ) {
        self.init(id, restart: restart, options: options) { (context: ChildContext) async throws -> ServiceRunner? in
            guard let service = try await start(context) else { return nil }
            return ServiceRunner(service, context)
        }
    }

    /// A child that is both a worker and a service is run as the worker.
    public init<W: Worker & Service>(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        onKill: (@Sendable (W) async -> Void)? = nil,
        start: @escaping @Sendable (ChildContext) async throws -> W?
    ) {
        self.init(id, restart, options, .worker(start, onKill: onKill))
    }

    /// A child that is an actor and a service (and not a ``Worker``) is run as the service.
    public init<S: Service & Actor>(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        start: @escaping @Sendable (ChildContext) async throws -> S?
    ) {
        let body = ChildSpecification.Body(
            type: S.self,
            start: .inTask { context in
                // Taken before it runs, so that it is asked to stop and not cancelled.
                _ = context.stopRequest
                return try await start(context)
            },
            run: { actor, context in
                guard let service = actor as? S else { return }
                try await ServiceRunner.run(service, stop: context.stopRequest, logger: context.logger)
            }
        )
        self.init(id, restart, options, body)
    }

    private init(_ id: String, _ restart: Restart, _ options: ChildOptions, _ body: ChildSpecification.Body) {
        specification = ChildSpecification(id: id, policy: .with(restart, options), kind: .actor(body))
    }

    /// A child that is an actor whose start closure runs at once, on the thread that has the news that it is to be started: that of
    /// the caller of `kill()`, of a timer, or of whoever starts the child.
    ///
    ///     Child.inline("session", restart: .temporary) { context in Session(context) }
    ///
    /// Without a task and its turn on the thread pool, a start costs half of what it costs else: for actors that are made in a moment,
    /// and often. Until the closure returns, its supervisor decides nothing else. So it must be short, must not block, and must not
    /// wait for what another thread does, least of all for a lock that is held by whoever kills or starts children; it may kill
    /// processes and register names. It sees no task-local values.
    ///
    /// - Parameters:
    ///   - id: Unique among the siblings, not empty, without `/`.
    ///   - restart: When it is started again.
    ///   - options: How it is stopped, restarted and watched. A ``ChildOptions/startTimeout`` is refused: nothing can interrupt
    ///     the closure.
    ///   - start: Makes an incarnation. Before macOS 26 and its siblings it runs in a task, as that of any other child.
    public static func inline<A: Actor>(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        start: @escaping @Sendable (ChildContext) throws -> A?
    ) -> Child {
        Child(id, restart, options, ChildSpecification.Body(type: A.self, start: .inline(start)))
    }

    /// A worker has a task, in which it starts as well.
    @available(*, unavailable, message: "a worker starts in the task of its run(): use Child(_:start:)")
    public static func inline<W: Worker>(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        start: @escaping @Sendable (ChildContext) throws -> W?
    ) -> Child {
        Child(id, restart: restart, options: options, start: start)
    }

    /// A service has a task, in which it starts as well.
    @available(*, unavailable, message: "a service starts in the task in which it runs: use Child(_:start:)")
    public static func inline<S: Service & Actor>(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        start: @escaping @Sendable (ChildContext) throws -> S?
    ) -> Child {
        Child(id, restart: restart, options: options, start: start)
    }

    init(_ specification: ChildSpecification) {
        self.specification = specification
    }

    init(supervisor: SupervisorSpecification) {
        let options = ChildOptions(
            shutdown: supervisor.shutdown,
            significant: supervisor.isSignificant,
            backoff: supervisor.backoff
        )
        let policy = ChildPolicy(restart: supervisor.restart, options: options)
        specification = ChildSpecification(id: supervisor.name, policy: policy, kind: .supervisor(supervisor))
    }
}
