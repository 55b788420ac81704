import Synchronization

extension DynamicSupervisorReference {
    /// Finds the child that is registered under `key`, or starts and registers one: Elixir's `via` names, with `{:error, {:already_started,
    /// pid}}` treated as success.
    ///
    /// However many callers ask at the same time, one child is started and all get its reference; nothing is logged for the later callers.
    /// The name is taken before the start closure runs, and callers that find a starting child wait for it. Each incarnation registers the
    /// name again: between two incarnations the name is free, and a restart that finds it taken drops its child (``KeyedSupervisor`` keeps
    /// the name).
    ///
    /// - Parameters:
    ///   - child: Its specification. Its actor must have the registry's type.
    ///   - key: The name.
    ///   - registry: Where the name is registered, with the child's reference as the value.
    /// - Returns: The reference, or `nil` when the start closure returned `nil`.
    /// - Throws: ``AdministrationError``, as ``startChild(_:as:)``.
    public func startChild<Key: Hashable & Sendable, A: Actor>(
        _ child: Child,
        registeredAs key: Key,
        in registry: Registry<Key, ChildReference<A>>
    ) async throws(AdministrationError) -> ChildReference<A>? {
        guard case .actor(let body) = child.specification.kind else {
            throw .invalidSpecification("'\(child.id)' is a supervisor: only an actor can be registered under a name")
        }
        let isTaken = Mutex(false)
        let named = child.specification.replacing(
            body.starting { context in
                do {
                    try registry.register(key, context.reference(as: A.self), for: context.pid)
                } catch {
                    isTaken.withLock { $0 = true }
                    return nil
                }
                return try await body.start(context)
            }
        )
        while true {
            if let found = registry.lookup(key)?.value {
                guard case .restarting(let coming) = found.address.lookUp() else { return found }
                do { _ = try await coming.changed() } catch { throw .cancelled(child: found.path) }
                continue
            }
            do {
                if let started: ChildReference<A> = try await startChild(Child(named)) { return started }
            } catch .tooManyChildren(let supervisor) {
                // The child that was asked for may be among those that fill the limit.
                guard registry.lookup(key) != nil else { throw .tooManyChildren(supervisor: supervisor) }
            }
            let wasTaken = isTaken.withLock { isTaken in
                defer { isTaken = false }
                return isTaken
            }
            guard wasTaken || registry.lookup(key) != nil else { return nil }
        }
    }
}
