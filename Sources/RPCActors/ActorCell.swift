public import Distributed
public import Supervision

/// The supervised process of a distributed actor, which is no `Actor` itself and so cannot be a child.
///
/// It ends when a method of the actor throws a ``CrashingError``, and takes the actor's address with it; the next incarnation has it again.
public actor ActorCell<Act: DistributedActor>: Worker where Act.ActorSystem == RPCActorSystem {
    /// The actor.
    public nonisolated let instance: Act
    private let crashed = AsyncStream.makeStream(of: (any Error).self, bufferingPolicy: .bufferingOldest(1))

    init(_ instance: Act, in system: RPCActorSystem) {
        self.instance = instance
        let continuation = crashed.continuation
        system.local.onCrash(instance.id) { continuation.yield($0) }
    }

    /// Waits for the error that ends it.
    public func run() async throws {
        for await error in crashed.stream { throw error }
    }
}

extension Child {
    /// A distributed actor of the service, under an address that all its incarnations share: `ActorAddress.service(service, id)`.
    ///
    ///     Child.distributed("teller", in: actors) { BankTeller(actorSystem: $0) }
    ///
    /// Every node of the service has one; a call is answered by any of them. A method that throws a ``CrashingError`` ends it, and it is
    /// restarted as any child is: calls that come meanwhile wait for the next incarnation, within their deadlines. When it does not come
    /// back, because it was temporary or its supervisor gave up, calls fail with ``RPCActorError/noProcess(_:)``.
    ///
    /// - Parameters:
    ///   - id: Its id among its siblings and its name in the service.
    ///   - actors: The system. Its `supervisor` comes before this child.
    ///   - restart: When it is restarted.
    ///   - options: How it is stopped, restarted and watched.
    ///   - make: Makes the actor, with this system as its actor system; called for each incarnation. The actor must be of a type that is
    ///     exported, or nothing of it can be called.
    public static func distributed<Act: DistributedActor>(
        _ id: String,
        in actors: RPCActorSystem,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        make: @escaping @Sendable (RPCActorSystem) async throws -> Act
    ) -> Child where Act.ActorSystem == RPCActorSystem {
        let address = ActorAddress.service(actors.service, id)
        // Whoever promises that it comes back: one supervisor's incarnation, once.
        let promise = OnceFor<Pid>()
        return Child(id, restart: restart, options: options) { context -> ActorCell<Act>? in
            if restart.keepsSpecification, promise.isNew(context.supervisor.pid) {
                actors.local.expect(address)
                let supervisor = context.supervisor.pid
                supervisor.onExit { _ in
                    if promise.forget(supervisor) { actors.local.unexpect(address) }
                }
            }
            let actor = try await Hosting.$current.withValue(Hosting(address, for: Act.self)) { try await make(actors) }
            let identity = actor.id
            let root = context.supervisor.root
            let supervisor = context.supervisor
            context.pid.onExit { reason in
                actors.announceEnd(of: identity, reason)
                // While everything stops, in order, requests still come until the receivers have ended, and are answered.
                if case .shutdown = reason, root.endingReason != nil { return }
                actors.local.remove(identity)
                if !restart.restarts(after: reason), promise.forget(supervisor.pid) { actors.local.unexpect(address) }
            }
            return ActorCell(actor, in: actors)
        }
    }
}
