import ConcurrencyPrimitives
import Logging
import ServiceLifecycle

/// The specification of one child: how it is started, when it is restarted and how it is stopped (OTP's child spec).
///
///     Supervisor("app") {
///         Child("counter") { _ in Counter() }
///         Child("flusher", restart: .transient) { context in Flusher(context) }
///     }
///
/// The start closure runs for every incarnation; an instance never runs twice. Children start one after another: the next one starts when
/// the previous closure has returned. Returning `nil` is OTP's `ignore`: there is no process, and the specification is kept (that of a
/// temporary child is dropped). Throwing fails the start: while booting, that of the whole tree; later, one attempt of a restart.
///
/// The closure runs in a task of its own, without the caller's task-local values. The task may begin on the thread of the caller of
/// ``SupervisorReference/startChild(_:)``, who waits for it: a closure that blocks its thread blocks that caller, and a cancellation of the
/// caller takes effect when it returns. With a ``ChildOptions/startTimeout`` it always begins on the thread pool.
public struct Child: Sendable {
    let specification: ChildSpecification

    /// Unique among its siblings, and the last component of its path.
    public var id: String { specification.id }

    /// Creates a child from any actor.
    ///
    /// - Parameters:
    ///   - id: Unique among the siblings, not empty, without `/`.
    ///   - restart: When it is restarted.
    ///   - options: How it is stopped, restarted and monitored.
    ///   - onKill: Closes what a killed or abandoned incarnation holds open. It runs outside the actor, for at most
    ///     ``ChildOptions/killTimeout`` before the exit is announced.
    ///   - start: Creates an incarnation.
    public init<A: Actor>(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        onKill: (@Sendable (A) async -> Void)? = nil,
        start: nonisolated(nonsending) @escaping @Sendable (ChildContext) async throws -> A?
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

    /// Creates a child from a ``Worker``, which lives as long as its `run()`. The parameters are those of the initializer for any actor.
    public init<W: Worker>(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        onKill: (@Sendable (W) async -> Void)? = nil,
        start: nonisolated(nonsending) @escaping @Sendable (ChildContext) async throws -> W?
    ) {
        self.init(id, restart, options, .worker(start, onKill: onKill))
    }

    /// Creates a child from a `Service` of swift-service-lifecycle, which is created anew for each incarnation.
    ///
    /// It runs in its own `ServiceGroup`, so that it can be shut down gracefully by itself; it is asked first, and cancelled as
    /// ``ChildOptions/shutdown`` says. The other parameters are those of the initializer for any actor.
    public init<S: Service>(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        start: nonisolated(nonsending) @escaping @Sendable (ChildContext) async throws -> S?
    ) {
        self.init(id, restart: restart, options: options) { (context: ChildContext) async throws -> ServiceRunner? in
            guard let service = try await start(context) else { return nil }
            return ServiceRunner(service, context)
        }
    }

    /// Creates a child from a worker that is also a service; it runs as a worker.
    public init<W: Worker & Service>(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        onKill: (@Sendable (W) async -> Void)? = nil,
        start: nonisolated(nonsending) @escaping @Sendable (ChildContext) async throws -> W?
    ) {
        self.init(id, restart, options, .worker(start, onKill: onKill))
    }

    /// Creates a child from an actor that is also a service (and not a ``Worker``); it runs as a service.
    public init<S: Service & Actor>(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        start: nonisolated(nonsending) @escaping @Sendable (ChildContext) async throws -> S?
    ) {
        let body = ChildSpecification.Body(
            type: S.self,
            start: .inTask { context in
                // Taken before the service runs, so that it is asked to stop instead of cancelled.
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

    /// A child whose start closure runs inline, on the thread that triggers the start: that of the caller of `kill()`, of a timer, or of
    /// the caller that starts the child.
    ///
    ///     Child.inline("session", restart: .temporary) { context in Session(context) }
    ///
    /// Without a task, a restart costs half as much and a start three quarters: use it for actors that are created quickly and often.
    /// Its supervisor makes no other decision until the closure returns. The closure must therefore be short, must not block, and must not
    /// wait for another thread, in particular not for a lock that is held by code that kills or starts children; it may kill processes and
    /// register names. It runs in the task of that caller, if there is one: it sees the caller's task-local values, and a `Task` that it
    /// creates inherits them. Use `Task.detached` for a task that must not.
    ///
    /// - Parameters:
    ///   - id: Unique among the siblings, not empty, without `/`.
    ///   - restart: When it is restarted.
    ///   - options: How it is stopped, restarted and monitored. A ``ChildOptions/startTimeout`` is rejected, because nothing can interrupt
    ///     the closure.
    ///   - start: Creates an incarnation.
    public static func inline<A: Actor>(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        start: @escaping @Sendable (ChildContext) throws -> A?
    ) -> Child {
        Child(id, restart, options, ChildSpecification.Body(type: A.self, start: .inline(start)))
    }

    /// Not available: a worker has a task, and starts in it.
    @available(*, unavailable, message: "a worker starts in the task of its run(): use Child(_:start:)")
    public static func inline<W: Worker>(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        start: @escaping @Sendable (ChildContext) throws -> W?
    ) -> Child {
        Child(id, restart: restart, options: options, start: start)
    }

    /// Not available: a service has a task, and starts in it.
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
