public import Distributed
import RPCCaller
public import Supervision
import Synchronization

extension RPCActorSystem {
    /// Waits for the end of a remote actor, and returns how it ended.
    ///
    ///     let reason = await actors.exited(session)
    ///
    /// The actor's node reports it; if the node is lost, the broker does (``RemoteExit/noConnection``). No end is missed: one between the
    /// call and the subscription is found by asking. While this process has no connection nothing is reported; afterwards the actor is
    /// checked.
    ///
    /// Only an actor of a node can be waited for: one that a method returned, or that of `ActorAddress.service(_:_:)` on one node
    /// (``on(_:_:)``). An address that many nodes answer to, and a virtual actor, are not processes: ``RemoteExit/noProcess`` is returned
    /// immediately.
    ///
    /// - Throws: `CancellationError` when the task is cancelled.
    public func exited<Act: DistributedActor>(_ actor: Act) async throws -> RemoteExit where Act.ID == ActorAddress {
        try await exited(actor.id)
    }

    /// The same for an address.
    public func exited(_ actor: ActorAddress) async throws -> RemoteExit {
        guard actor.route.isOneNode, actor.isValid else { return .noProcess }
        return try await events.exited(actor)
    }

    /// The address of a service's actor on one node.
    public static func on(_ node: String, _ name: String) -> ActorAddress { .node(node, name) }

    /// The names of the nodes of a service, now and at each change. Does not end. At most 16 changes are buffered, then the oldest are
    /// dropped.
    ///
    /// A node is added when it announces itself, and removed when it says so or the broker has lost it. The first value may be empty: the
    /// nodes are asked then, and answer within milliseconds.
    public func members(of service: String) -> AsyncStream<Set<String>> {
        let memberships = events.memberships(of: service)
        let (stream, continuation) = AsyncStream.makeStream(of: Set<String>.self, bufferingPolicy: .bufferingNewest(16))
        let task = Task.detached {
            var last: Set<String>?
            for await membership in memberships where membership.nodes != last {
                last = membership.nodes
                continuation.yield(membership.nodes)
            }
            continuation.finish()
        }
        continuation.onTermination = { _ in task.cancel() }
        return stream
    }
}

extension Pid {
    /// Ends this process when a remote actor ends, or its node is lost.
    ///
    /// Like a link to a local process, but in one direction: the end of this process does not end the actor. The normal end of the actor
    /// has no effect. If the actor does not exist, this process ends immediately.
    public func link<Act: DistributedActor>(to actor: Act, in actors: RPCActorSystem) where Act.ID == ActorAddress {
        link(to: actor.id, in: actors)
    }

    /// The same for an address.
    public func link(to actor: ActorAddress, in actors: RPCActorSystem) {
        let watcher = Task.detached { [self] in
            guard let exit = try? await actors.exited(actor), exit != .normal else { return }
            self.exit(.crashed(LinkedActorExited(actor: actor, exit: exit)))
        }
        onExit { _ in watcher.cancel() }
    }
}

/// Remembers for which key something was done.
final class OnceFor<Key: Hashable & Sendable>: Sendable {
    private let keys = Mutex<Set<Key>>([])

    /// Whether it has not been done for this key. Only the last key is remembered.
    func isNew(_ key: Key) -> Bool {
        keys.withLock { keys in
            guard !keys.contains(key) else { return false }
            keys = [key]
            return true
        }
    }

    /// Undoes it. Returns whether it had been done.
    func reset(_ key: Key) -> Bool {
        keys.withLock { $0.remove(key) != nil }
    }
}
