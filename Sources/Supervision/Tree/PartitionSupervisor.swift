import Logging
import ServiceLifecycle

/// Several instances of one child, each responsible for a part of the keys: Elixir's `PartitionSupervisor`.
///
///     let counters = PartitionSupervisor<Counter>("counters", partitions: 8) { id, _ in Child(id) { _ in Counter() } }
///     ...
///     try await counters.partition(for: userID, under: parent).call { $0.increment() }
///
/// Use it where a single process would be a bottleneck. It is a one_for_one supervisor whose children have the ids `0`, `1`, ...
public final class PartitionSupervisor<A: Actor>: Sendable {
    /// The supervisor of the partitions: start it, or list it in another supervisor's builder.
    public let supervisor: Supervisor
    /// The number of partitions, at least 1.
    public let partitions: Int

    /// Describes the partitions.
    ///
    /// - Parameters:
    ///   - name: Its id among its siblings, and the first component of its children's paths. Not empty, without `/`.
    ///   - partitions: The number of partitions; values below 1 count as 1. More than a million are rejected at the start.
    ///   - intensity: How many restarts are allowed within a period, counted over all partitions.
    ///   - logger: The logger of the whole tree, used at the root.
    ///   - child: Creates the specification of one partition from its id and index.
    public init(
        _ name: String,
        partitions: Int,
        intensity: RestartIntensity = RestartIntensity(3, within: .seconds(5)),
        logger: Logger? = nil,
        child: (_ id: String, _ index: Int) -> Child
    ) {
        let limit = 1_000_000
        self.partitions = min(max(1, partitions), limit)
        // Does not create the children of a number that will be rejected.
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
    /// The partition of a key, below a running supervisor that has this one as a child. The same key always maps to the same partition
    /// within one OS process.
    public func partition(for key: some Hashable, under parent: SupervisorReference) -> ChildReference<A> {
        parent.child(supervisor.specification.name, id(for: key), as: A.self)
    }

    /// The partition of a key, if this is the root of its tree.
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
    /// Nested partitions. Only the description is used, for a new instance at every start.
    public static func buildExpression<A: Actor>(_ partitions: PartitionSupervisor<A>) -> [Child] {
        [partitions.supervisor.asChild()]
    }
}
