import ConcurrencyPrimitives
import Logging
import ServiceLifecycle

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// One supervised process per key, found or started by the key: the combination of Elixir's `Registry` and `DynamicSupervisor` in the
/// pattern `{:via, Registry, {MyRegistry, key}}`.
///
///     let tenants = KeyedSupervisor("tenants", idleTimeout: .seconds(300)) { key, context in Tenant(key, context) }
///     let supervisor = Supervisor("app") { tenants }
///     try await supervisor.start()
///     let total = try await tenants["ada"].call { $0.deposit(10) }
///
/// A call finds the process of its key or starts it; concurrent calls share one start. The process keeps its key, its path
/// (`app/tenants/ada`) and its references across restarts. It is ended after `idleTimeout` without a call, but never while a call is under
/// way or about to begin; a call that arrives while it is ending waits and gets the next process. <doc:ProcessesByKey> has a table of all
/// cases.
///
/// Like ``Supervisor`` it runs at the top of a tree, and is a description inside another supervisor's builder. In both cases processes are
/// found through this object, so it can be in one place at a time: starting it a second time while it runs fails with
/// ``SupervisionError/invalidSpecification(_:)``.
///
/// The keys are spread over partitions, each with its own lock and dynamic supervisor, so that threads do not contend. The table has one
/// entry per process, and `limit` bounds the number of processes.
public final class KeyedSupervisor<Key: Hashable & Sendable, A: Actor>: Service, Sendable {
    let root: Supervisor
    let settings: KeyedSettings<Key, A>
    let partitions: [KeyedPartition<Key, A>]

    /// Describes a keyed supervisor whose processes are actors.
    ///
    /// - Parameters:
    ///   - name: Its id among its siblings, and the first component of its processes' paths. Not empty, without `/`.
    ///   - limit: The maximum number of processes, and what happens when one more is needed.
    ///   - idleTimeout: How long a process may go without a call before it is ended, more than zero; `nil` for no limit.
    ///   - partitions: The number of partitions of the keys; `nil` for four times the number of cores, at most 64.
    ///   - processRestart: When a process that ended is restarted without being called. Otherwise the next call starts a new one.
    ///   - processOptions: How a process is stopped (when idle, and with its supervisor), restarted and monitored. The default limits its
    ///     start closure to 30 seconds; set such a limit in your own options too. Calls wait no longer than their own timeout.
    ///   - intensity: How many restarts *of one process* are allowed within a period.
    ///   - whenExceeded: What happens when the intensity is exceeded.
    ///   - restart: As a child: when its parent restarts it, without processes.
    ///   - shutdown: As a child: how its parent stops it. By default its processes have unlimited time.
    ///   - logger: The logger of the whole tree, used at the root; by default one with the label `supervision`.
    ///   - clock: The clock of the whole tree, used at the root.
    ///   - label: The key as text for paths, logs and events. If keys are secret, return a label that is not. A `/`, a `%`, a leading `#`
    ///     and characters that end a line or change its direction are percent-encoded, and labels longer than 128 characters are cut.
    ///   - start: Creates an incarnation for a key. If it returns `nil` or throws, no process is started.
    public convenience init(
        _ name: String,
        limit: ProcessLimit = .unlimited,
        idleTimeout: Duration? = nil,
        partitions: Int? = nil,
        processRestart: Restart = .transient,
        processOptions: ChildOptions = ChildOptions(startTimeout: .seconds(30)),
        intensity: RestartIntensity = RestartIntensity(3, within: .seconds(5)),
        whenExceeded: KeyedWhenExceeded = .giveUp,
        restart: Restart = .permanent,
        shutdown: Shutdown = .infinity,
        logger: Logger? = nil,
        clock: any SupervisionClock = SystemSupervisionClock.shared,
        label: @escaping @Sendable (Key) -> String = { "\($0)" },
        start: nonisolated(nonsending) @escaping @Sendable (Key, ChildContext) async throws -> A?
    ) {
        self.init(
            name,
            limit: limit,
            idleTimeout: idleTimeout,
            partitions: partitions,
            policy: ChildPolicy(restart: processRestart, options: processOptions),
            intensity: intensity,
            whenExceeded: whenExceeded,
            restart: restart,
            shutdown: shutdown,
            logger: logger,
            clock: clock,
            label: label
        ) { key in
            ChildSpecification.Body(type: A.self, start: .inTask { context in try await start(key, context) })
        }
    }

    init(
        _ name: String,
        limit: ProcessLimit,
        idleTimeout: Duration?,
        partitions count: Int?,
        policy: ChildPolicy,
        intensity: RestartIntensity,
        whenExceeded: KeyedWhenExceeded,
        restart: Restart,
        shutdown: Shutdown,
        logger: Logger?,
        clock: any SupervisionClock,
        label: @escaping @Sendable (Key) -> String,
        body: @escaping @Sendable (Key) -> ChildSpecification.Body
    ) {
        let cores = max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN)))
        let count = min(max(1, count ?? min(64, 4 * cores)), 1024)
        settings = KeyedSettings(
            name: name,
            limit: limit,
            idleTimeout: idleTimeout,
            policy: policy,
            label: label,
            body: body
        )
        partitions = settings.makePartitions(count)
        root = Supervisor(
            SupervisorSpecification(
                name: name,
                // The partitions form one unit: a failure that ends one of them ends all.
                kind: .ordered(.oneForAll),
                intensity: RestartIntensity(0, within: .seconds(1)),
                whenExceeded: .escalate,
                autoShutdown: .never,
                restart: restart,
                shutdown: shutdown,
                isSignificant: false,
                backoff: nil,
                children: partitions.enumerated().map { index, partition in
                    Child(
                        supervisor: SupervisorSpecification(
                            name: KeyedSettings<Key, A>.partitionName(index),
                            kind: .dynamic(maximumChildren: nil),
                            intensity: intensity,
                            whenExceeded: whenExceeded.ofOneChild,
                            autoShutdown: .never,
                            restart: .permanent,
                            shutdown: .infinity,
                            isSignificant: false,
                            backoff: nil,
                            children: [],
                            keyed: KeyedChildren(table: partition, givesUpChild: whenExceeded == .giveUp)
                        )
                    )
                }
            ),
            logger: logger,
            clock: clock
        )
    }

    /// Starts the supervisor, without processes.
    public func start() async throws { try await root.start() }

    /// Stops all processes concurrently, and returns when they have ended.
    public func stop() async { await root.stop() }

    /// Runs the supervisor until it ends, like ``Supervisor/run()``.
    public func run() async throws { try await root.run() }

    /// A snapshot of the tree, if this is its root.
    public func tree() -> SupervisionTree { root.tree() }

    /// The events of the processes from now on, if this is the root of its tree.
    public var events: SupervisionEvents { root.events }

    /// The process of a key: a stable reference, found or started at each call.
    public subscript(key: Key) -> KeyedReference<Key, A> {
        var hasher = Hasher()
        hasher.combine(key)
        let index = Int(UInt(bitPattern: hasher.finalize()) % UInt(partitions.count))
        return KeyedReference(key: key, partition: partitions[index])
    }

    /// The keys that have a process, in no order, including processes that are starting, restarting or ending. Each partition is read
    /// atomically.
    public var keys: [Key] { partitions.flatMap(\.keys) }

    /// The number of keys that have a process.
    public var count: Int { partitions.reduce(0) { $0 + $1.count } }
}

extension KeyedSupervisor where A: Worker {
    /// Describes a keyed supervisor whose processes are workers. The parameters are those of the initializer for any actor.
    ///
    /// A worker that returns from `run()` has ended: its key has no process until the next call.
    public convenience init(
        _ name: String,
        limit: ProcessLimit = .unlimited,
        idleTimeout: Duration? = nil,
        partitions: Int? = nil,
        processRestart: Restart = .transient,
        processOptions: ChildOptions = ChildOptions(startTimeout: .seconds(30)),
        intensity: RestartIntensity = RestartIntensity(3, within: .seconds(5)),
        whenExceeded: KeyedWhenExceeded = .giveUp,
        restart: Restart = .permanent,
        shutdown: Shutdown = .infinity,
        logger: Logger? = nil,
        clock: any SupervisionClock = SystemSupervisionClock.shared,
        label: @escaping @Sendable (Key) -> String = { "\($0)" },
        start: nonisolated(nonsending) @escaping @Sendable (Key, ChildContext) async throws -> A?
    ) {
        self.init(
            name,
            limit: limit,
            idleTimeout: idleTimeout,
            partitions: partitions,
            policy: ChildPolicy(restart: processRestart, options: processOptions),
            intensity: intensity,
            whenExceeded: whenExceeded,
            restart: restart,
            shutdown: shutdown,
            logger: logger,
            clock: clock,
            label: label
        ) { key in
            .worker({ context in try await start(key, context) }, onKill: nil)
        }
    }
}

/// What a ``KeyedSupervisor`` does when one of its processes exceeds the restart intensity.
public enum KeyedWhenExceeded: Sendable, Hashable {
    /// The process is ended for good, and no other is affected. The next call of its key starts a new one.
    case giveUp
    /// The process is retried after this time, with its restart count reset. Calls wait for it in the meantime.
    case cooldown(Duration)
    /// The keyed supervisor ends, with ``SupervisionError/intensityExceeded(supervisor:child:lastReason:)`` as the cause, so that
    /// its own supervisor decides.
    case escalate

    var ofOneChild: WhenExceeded {
        switch self {
        case .giveUp, .escalate: .escalate
        case .cooldown(let pause): .cooldown(pause)
        }
    }
}

extension ChildrenBuilder {
    /// A nested keyed supervisor.
    public static func buildExpression<Key: Hashable & Sendable, A: Actor>(
        _ supervisor: KeyedSupervisor<Key, A>
    ) -> [Child] {
        [supervisor.root.asChild()]
    }
}
