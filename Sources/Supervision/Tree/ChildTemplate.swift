import ServiceLifecycle

/// What the children of one kind have in common: OTP's `simple_one_for_one`, for any dynamic supervisor.
///
///     let session = ChildTemplate("session", restart: .temporary) { (user: User, context) in Session(user, context) }
///     let reference = try await sessions.startChild(session, with: user)
///
/// One description serves all of them; of each child only its argument is kept, which every incarnation of it gets again.
public struct ChildTemplate<Argument: Sendable, A: Actor>: Sendable {
    let specification: ChildSpecification

    /// A template of any actor.
    ///
    /// - Parameters:
    ///   - id: A label for paths and logs, not empty, without `/`.
    ///   - restart: When a child is started again.
    ///   - options: How it is stopped, restarted and watched.
    ///   - start: Makes an incarnation of the child with this argument. Returning `nil` is OTP's `ignore`; throwing fails the start.
    public init(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        start: @escaping @Sendable (Argument, ChildContext) async throws -> A?
    ) {
        specification =
            Child(id, restart: restart, options: options, start: ChildArgument.filling(start)).specification
    }

    /// A template of a ``Worker``. The parameters are those of the initializer for any actor.
    public init(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        start: @escaping @Sendable (Argument, ChildContext) async throws -> A?
    ) where A: Worker {
        specification =
            Child(id, restart: restart, options: options, start: ChildArgument.filling(start)).specification
    }

    /// A template of a `Service` of swift-service-lifecycle. The parameters are those of the initializer for any actor.
    public init(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        start: @escaping @Sendable (Argument, ChildContext) async throws -> A?
    ) where A: Service {
        specification =
            Child(id, restart: restart, options: options, start: ChildArgument.filling(start)).specification
    }

    /// A child that is both a worker and a service is run as the worker.
    public init(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        start: @escaping @Sendable (Argument, ChildContext) async throws -> A?
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

    /// A worker starts in the task of its run().
    @available(*, unavailable, message: "a worker starts in the task of its run(): use ChildTemplate(_:start:)")
    public static func inline(
        _ id: String,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        start: @escaping @Sendable (Argument, ChildContext) throws -> A?
    ) -> ChildTemplate where A: Worker {
        ChildTemplate(id, restart: restart, options: options, start: start)
    }

    /// A service starts in the task in which it runs.
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

/// What a template is filled with for one child.
final class ChildArgument<Value: Sendable>: Sendable {
    let value: Value

    init(_ value: Value) {
        self.value = value
    }

    static func filling<A: Actor>(
        _ start: @escaping @Sendable (Value, ChildContext) async throws -> A?
    ) -> @Sendable (ChildContext) async throws -> A? {
        { context in
            guard let argument = context.child.argument as? ChildArgument<Value> else { return nil }
            return try await start(argument.value, context)
        }
    }
}
