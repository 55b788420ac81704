import ServiceLifecycle

/// The common part of similar children: OTP's `simple_one_for_one`, for any dynamic supervisor.
///
///     let session = ChildTemplate("session", restart: .temporary) { (user: User, context) in Session(user, context) }
///     let reference = try await sessions.startChild(session, with: user)
///
/// All children share one description; per child only its argument is stored, and passed to every incarnation.
public struct ChildTemplate<Argument: Sendable, A: Actor>: Sendable {
    let specification: ChildSpecification

    /// Creates a template from any actor.
    ///
    /// - Parameters:
    ///   - id: A label for paths and logs, not empty, without `/`.
    ///   - restart: When a child is restarted.
    ///   - options: How a child is stopped, restarted and monitored.
    ///   - start: Creates an incarnation of the child with this argument. Returning `nil` is OTP's `ignore`; throwing fails the start.
    public init(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        start: nonisolated(nonsending) @escaping @Sendable (Argument, ChildContext) async throws -> A?
    ) {
        specification =
            Child(id, restart: restart, options: options, start: ChildArgument.filling(start)).specification
    }

    /// Creates a template from a ``Worker``. The parameters are those of the initializer for any actor.
    public init(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        start: nonisolated(nonsending) @escaping @Sendable (Argument, ChildContext) async throws -> A?
    ) where A: Worker {
        specification =
            Child(id, restart: restart, options: options, start: ChildArgument.filling(start)).specification
    }

    /// Creates a template from a `Service` of swift-service-lifecycle. The parameters are those of the initializer for any actor.
    public init(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        start: nonisolated(nonsending) @escaping @Sendable (Argument, ChildContext) async throws -> A?
    ) where A: Service {
        specification =
            Child(id, restart: restart, options: options, start: ChildArgument.filling(start)).specification
    }

    /// Creates a template from a worker that is also a service; it runs as a worker.
    public init(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        start: nonisolated(nonsending) @escaping @Sendable (Argument, ChildContext) async throws -> A?
    ) where A: Worker & Service {
        specification =
            Child(id, restart: restart, options: options, start: ChildArgument.filling(start)).specification
    }

    /// A template of actors that start inline: see ``Child/inline(_:restart:options:start:)``.
    public static func inline(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        start: @escaping @Sendable (Argument, ChildContext) throws -> A?
    ) -> ChildTemplate {
        let child = Child.inline(id, restart: restart, options: options) { context -> A? in
            guard let argument = context.child.argument as? ChildArgument<Argument> else { return nil }
            return try start(argument.value, context)
        }
        return ChildTemplate(specification: child.specification)
    }

    /// Not available: a worker starts in the task of its `run()`.
    @available(*, unavailable, message: "a worker starts in the task of its run(): use ChildTemplate(_:start:)")
    public static func inline(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        start: @escaping @Sendable (Argument, ChildContext) throws -> A?
    ) -> ChildTemplate where A: Worker {
        ChildTemplate(id, restart: restart, options: options, start: start)
    }

    /// Not available: a service starts in the task in which it runs.
    @available(*, unavailable, message: "a service starts in the task in which it runs: use ChildTemplate(_:start:)")
    public static func inline(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        start: @escaping @Sendable (Argument, ChildContext) throws -> A?
    ) -> ChildTemplate where A: Service {
        ChildTemplate(id, restart: restart, options: options, start: start)
    }

    private init(specification: ChildSpecification) {
        self.specification = specification
    }
}

/// The argument of one child of a template.
final class ChildArgument<Value: Sendable>: Sendable {
    let value: Value

    init(_ value: Value) {
        self.value = value
    }

    static func filling<A: Actor>(
        _ start: nonisolated(nonsending) @escaping @Sendable (Value, ChildContext) async throws -> A?
    ) -> nonisolated(nonsending) @Sendable (ChildContext) async throws -> A? {
        { context in
            guard let argument = context.child.argument as? ChildArgument<Value> else { return nil }
            return try await start(argument.value, context)
        }
    }
}
