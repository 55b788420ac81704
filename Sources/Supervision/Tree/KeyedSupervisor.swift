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

/// One supervised process for each key, found or started by the key: what `Registry` and `DynamicSupervisor` are put together
/// for in Elixir, with the pattern `{:via, Registry, {MyRegistry, key}}`.
///
///     let tenants = KeyedSupervisor("tenants", idleTimeout: .seconds(300)) { key, context in Tenant(key, context) }
///     let supervisor = Supervisor("app") { tenants }
///     try await supervisor.start()
///     let total = try await tenants["ada"].call { $0.deposit(10) }
///
/// A call finds the process of its key, or starts it; however many ask at once, it is started once. The process keeps its key,
/// its path (`app/tenants/ada`) and its references when it is restarted. It is ended when nobody has called it for
/// `idleTimeout`, and never while a call is under way or about to begin; a call that arrives while it ends waits, and gets the
/// next one. What happens in each case is a table in <doc:ProcessesByKey>.
///
/// Like ``Supervisor`` it is live at the top of a tree and a description inside another's builder, and it is found through this
/// object in both cases: so it can stand in one place at a time, and a second one that starts while it runs fails with
/// ``SupervisionError/invalidSpecification(_:)``.
///
/// The keys are spread over partitions, each with a lock and a dynamic supervisor of its own, so that threads do not stand in
/// each other's way. The table is as large as there are processes, and those are as many as `limit` allows.
public final class KeyedSupervisor<Key: Hashable & Sendable, A: Actor>: Service, Sendable {
    let root: Supervisor
    let settings: KeyedSettings<Key, A>
    let partitions: [KeyedPartition<Key, A>]

    /// Describes a keyed supervisor whose processes are actors.
    ///
    /// - Parameters:
    ///   - name: Its id among its siblings, and the first part of its processes' paths. Not empty, without `/`.
    ///   - limit: How many processes there may be at once, and what happens when one more is wanted.
    ///   - idleTimeout: After how long without a call a process is ended, more than zero; `nil` for never.
    ///   - partitions: Into how many parts the keys are split; `nil` for four times the number of cores, at most 64.
    ///   - processRestart: When a process that ended is started again without being called. One that is not is started by the
    ///     next call.
    ///   - processOptions: How a process is stopped, when it is idle and with its supervisor, and how it is restarted and watched.
    ///     By default its start closure may take 30 seconds; give options of your own such a limit too. Calls wait no longer than
    ///     their own timeout.
    ///   - intensity: How many restarts *of one process* are allowed within a period.
    ///   - whenExceeded: What happens when there are more.
    ///   - restart: As a child: when its parent starts it again, without processes.
    ///   - shutdown: As a child: how its parent stops it. The default gives the processes all the time they need.
    ///   - logger: For the whole tree, used at the root; by default one with the label `supervision`.
    ///   - clock: For the whole tree, used at the root.
    ///   - label: The key as it stands in paths, logs and events. Give one that shows no secret when the keys are such. A `/`, a
    ///     `%`, a `#` at the beginning and characters that end a line or turn its direction are percent-encoded, and what is longer
    ///     than 128 characters is cut.
    ///   - start: Makes an incarnation for a key. Returning `nil` or throwing starts none.
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
        start: @escaping @Sendable (Key, ChildContext) async throws -> A?
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
                // The parts are one: what ends one of them ends all.
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

    /// Starts it, without processes.
    public func start() async throws { try await root.start() }

    /// Stops all processes side by side, and returns when they have ended.
    public func stop() async { await root.stop() }

    /// Runs it until it ends, as ``Supervisor/run()``.
    public func run() async throws { try await root.run() }

    /// The tree as it is now, when this is the root of its tree.
    public func tree() -> SupervisionTree { root.tree() }

    /// What happens to the processes from now on, when this is the root of its tree.
    public var events: SupervisionEvents { root.events }

    /// The process of a key: a stable reference, found or started at each call.
    public subscript(key: Key) -> KeyedReference<Key, A> {
        var hasher = Hasher()
        hasher.combine(key)
        let index = Int(UInt(bitPattern: hasher.finalize()) % UInt(partitions.count))
        return KeyedReference(key: key, partition: partitions[index])
    }

    /// The keys that have a process, in no order: one that is starting, restarting or ending counts. Each partition is read at
    /// one moment.
    public var keys: [Key] { partitions.flatMap(\.keys) }

    /// How many keys have a process.
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
        start: @escaping @Sendable (Key, ChildContext) async throws -> A?
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
    /// The process is given up, and no other is touched. The next call of its key starts it anew.
    case giveUp
    /// The process is tried again after this time, with its restart count reset. Calls wait for it meanwhile.
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
