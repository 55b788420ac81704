import Logging
import ServiceLifecycle

/// The same child several times, each responsible for a part of the keys: Elixir's `PartitionSupervisor`.
///
///     let counters = PartitionSupervisor<Counter>("counters", partitions: 8) { id, _ in Child(id) { _ in Counter() } }
///     ...
///     try await counters.partition(for: userID, under: parent).call { $0.increment() }
///
/// Where one process would be what everybody waits for, use this. It is a one_for_one supervisor whose children are called
/// `0`, `1`, ...
public final class PartitionSupervisor<A: Actor>: Sendable {
    /// The supervisor of the partitions: start it, or name it in another's builder.
    public let supervisor: Supervisor
    /// How many partitions there are, at least 1.
    public let partitions: Int

    /// Describes the partitions.
    ///
    /// - Parameters:
    ///   - name: Its id among its siblings, and the first part of its children's paths. Not empty, without `/`.
    ///   - partitions: How many; fewer than 1 counts as 1. More than a million are refused when it is started.
    ///   - intensity: How many restarts are allowed within a period, over all partitions.
    ///   - logger: For the whole tree, used at the root.
    ///   - child: Makes the specification of one partition from its id and index.
    public init(
        _ name: String,
        partitions: Int,
        intensity: RestartIntensity = RestartIntensity(3, within: .seconds(5)),
        logger: Logger? = nil,
        child: (_ id: String, _ index: Int) -> Child
    ) {
        let limit = 1_000_000
        self.partitions = min(max(1, partitions), limit)
        // Too many are not made before they are refused.
        let children = partitions > limit ? [] : (0..<self.partitions).map { child("\($0)", $0) }
        supervisor = Supervisor(
            SupervisorSpecification(
                name: name,
                kind: .ordered(.oneForOne),
                intensity: intensity,
                whenExceeded: .escalate,
                autoShutdown: .never,
                restart: .permanent,
                shutdown: .infinity,
                isSignificant: false,
                backoff: nil,
                children: children,
                settingsProblem: partitions > limit
                    ? "partitions of '\(name)' must be at most \(limit), but is \(partitions)" : nil
            ),
            logger: logger,
            clock: SystemSupervisionClock.shared
        )
    }
}

extension PartitionSupervisor {
    /// The partition of a key, below a running supervisor that has this one as its child. The same key gives the same
    /// partition for as long as the OS process lives.
    public func partition(for key: some Hashable, under parent: SupervisorReference) -> ChildReference<A> {
        parent.child(supervisor.specification.name, id(for: key), as: A.self)
    }

    /// The partition of a key, when this is the root of its tree.
    public func partition(for key: some Hashable) -> ChildReference<A> {
        ChildReference(address: Address(anchor: .root(supervisor), names: [id(for: key)]))
    }

    private func id(for key: some Hashable) -> String {
        var hasher = Hasher()
        key.hash(into: &hasher)
        return String(UInt(bitPattern: hasher.finalize()) % UInt(partitions))
    }
}

extension ChildrenBuilder {
    /// Nested partitions: the description only, made anew for every incarnation.
    public static func buildExpression<A: Actor>(_ partitions: PartitionSupervisor<A>) -> [Child] {
        [partitions.supervisor.asChild()]
    }
}
