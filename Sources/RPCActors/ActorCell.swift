public import Distributed
public import Supervision

/// The supervised process of a distributed actor, which is not an `Actor` itself and so cannot be a child.
///
/// It ends when a method of the actor throws a ``CrashingError``, and releases the actor's address; the next incarnation gets the address
/// again.
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
    /// A distributed actor of the service, with an address that all its incarnations share: `ActorAddress.service(service, id)`.
    ///
    ///     Child.distributed("teller", in: actors) { BankTeller(actorSystem: $0) }
    ///
    /// Every node of the service has one; any of them answers a call. A method that throws a ``CrashingError`` ends the actor, and it is
    /// restarted like any child: calls made in the meantime wait for the next incarnation, within their deadlines. If it does not come
    /// back, because it was temporary or its supervisor gave up, calls fail with ``RPCActorError/noProcess(_:)``.
    ///
    /// - Parameters:
    ///   - id: Its id among its siblings and its name in the service.
    ///   - actors: The system. List its `supervisor` before this child.
    ///   - restart: When it is restarted.
    ///   - options: How it is stopped, restarted and monitored.
    ///   - make: Creates the actor, with this system as its actor system, for each incarnation. The actor's type must be exported,
    ///     otherwise none of its methods can be called.
    public static func distributed<Act: DistributedActor>(
        _ id: String,
        in actors: RPCActorSystem,
        restart: Restart = .permanent,
        options: ChildOptions = ChildOptions(),
        make: @escaping @Sendable (RPCActorSystem) async throws -> Act
    ) -> Child where Act.ActorSystem == RPCActorSystem {
        let address = ActorAddress.service(actors.service, id)
        // Who promises that the actor comes back: once per incarnation of its supervisor.
        let promise = OnceFor<Pid>()
        return Child(id, restart: restart, options: options) { context -> ActorCell<Act>? in
            if restart.keepsSpecification, promise.isNew(context.supervisor.pid) {
                actors.local.expect(address)
                let supervisor = context.supervisor.pid
                supervisor.onExit { _ in
                    if promise.reset(supervisor) { actors.local.unexpect(address) }
                }
            }
            let actor = try await Hosting.$current.withValue(Hosting(address, for: Act.self)) { try await make(actors) }
            let identity = actor.id
            let root = context.supervisor.root
            let supervisor = context.supervisor
            context.pid.onExit { reason in
                actors.announceEnd(of: identity, reason)
                // During an orderly shutdown requests still arrive until the receivers have ended, and are answered.
                if case .shutdown = reason, root.endingReason != nil { return }
                actors.local.remove(identity)
                if !restart.restarts(after: reason), promise.reset(supervisor.pid) { actors.local.unexpect(address) }
            }
            return ActorCell(actor, in: actors)
        }
    }
}
