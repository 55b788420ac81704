import Logging
import Supervision
import Synchronization

let quiet = Logger(label: "settings") { _ in SwiftLogNoOpLogHandler() }

extension Backoff: HasExtremes {
    static var extremes: [Backoff] {
        let plain = Backoff(minimum: .milliseconds(1), maximum: .milliseconds(2))
        func changed<Value: HasExtremes>(_ path: WritableKeyPath<Backoff, Value>) -> [Backoff] {
            Value.extremes.map { value in
                var backoff = plain
                backoff[keyPath: path] = value
                return backoff
            }
        }
        return changed(\.minimum) + changed(\.maximum) + changed(\.factor) + changed(\.jitter) + changed(\.resetAfter)
            + [Backoff(minimum: .longest, maximum: .longest), Backoff(minimum: .zero, maximum: .zero)]
    }
}

extension RestartIntensity: HasExtremes {
    static var extremes: [RestartIntensity] {
        Int.extremes.map { RestartIntensity($0, within: .seconds(1)) }
            + Duration.extremes.map { RestartIntensity(1, within: $0) }
            + [RestartIntensity(.max, within: .longest)]
    }
}

/// Supervision: what it decides with the value is waited for, and the tree then stops.
enum SupervisionSettings {
    static let all: [Setting] = backoffs + intensities + children + supervisors + keyed + timers + clocks

    private static let backoff = SettingsOf("Backoff", { Backoff() }) { try await restart(backoff: $0) }
    private static let backoffs: [Setting] = [
        backoff("minimum", \.minimum), backoff("maximum", \.maximum), backoff("factor", \.factor),
        backoff("jitter", \.jitter), backoff("resetAfter", \.resetAfter),
        Setting("Backoff.init#minimum") { try await restart(backoff: Backoff(minimum: $0)) },
        Setting("Backoff.init#maximum", called: "minimum") { try await restart(backoff: Backoff(maximum: $0)) },
        Setting("Backoff.init#factor") { try await restart(backoff: Backoff(factor: $0)) },
        Setting("Backoff.init#jitter") { try await restart(backoff: Backoff(jitter: $0)) },
        Setting("Backoff.init#resetAfter") { (value: Duration) in try await restart(backoff: Backoff(resetAfter: value))
        },
    ]

    private static let intensity = SettingsOf("RestartIntensity", { RestartIntensity(1, within: .seconds(1)) }) {
        try await restart(intensity: $0)
    }
    private static let intensities: [Setting] = [
        intensity("restarts", \.restarts, called: "intensity"), intensity("period", \.period),
        Setting("RestartIntensity.init#restarts", called: "intensity") {
            try await restart(intensity: RestartIntensity($0, within: .seconds(1)))
        },
        Setting("RestartIntensity.init#within", called: "period") {
            try await restart(intensity: RestartIntensity(1, within: $0))
        },
        Setting("WhenExceeded.cooldown") {
            try await restart(intensity: RestartIntensity(0, within: .seconds(1)), whenExceeded: .cooldown($0))
        },
    ]

    private static let options = SettingsOf("ChildOptions", { ChildOptions() }) { try await useOptions($0) }

    /// Restarts a child that has these options, starts and stops workers and processes by key that have them.
    private static func useOptions(_ options: ChildOptions) async throws {
        let root = Supervisor("app", intensity: RestartIntensity(3, within: .seconds(60)), logger: quiet) {
            Child("a", options: options) { _ in Plain() }
        }
        try await decide(root) { try root.child("a", as: Plain.self).pid?.kill() }
        if options.startTimeout == nil {
            let inline = Supervisor("app", intensity: RestartIntensity(3, within: .seconds(60)), logger: quiet) {
                Child.inline("a", options: options) { _ in Plain() }
            }
            try await decide(inline) { try inline.child("a", as: Plain.self).pid?.kill() }
        }
        try await find(KeyedSupervisor("app", processOptions: options, logger: quiet) { _, _ in Plain() })
        try await startAndStop(Child("a", options: options) { _ in Polite() })
        var killed = options
        killed.shutdown = .brutalKill
        try await startAndStop(Child("a", options: killed) { _ in Polite() })
    }

    private static let children: [Setting] = [
        Setting("Shutdown.timeout", called: "shutdown") { value in
            try await startAndStop(Child("a", options: ChildOptions(shutdown: .timeout(value))) { _ in Polite() })
        },
        options("backoff", \.backoff), options("startTimeout", \.startTimeout, deadline: true),
        options("killTimeout", \.killTimeout),
        // One that is not used: with the shortest time it is ended before it could be.
        Setting("ChildOptions.heartbeatTimeout") { (value: Duration) in
            var options = ChildOptions()
            options.heartbeatTimeout = value
            try await startAndStop(Child("a", options: options) { _ in Polite() })
        },
        Setting("ChildOptions.init#backoff") { try await useOptions(ChildOptions(backoff: $0)) },
        Setting("ChildOptions.init#startTimeout", deadline: true) {
            try await useOptions(ChildOptions(startTimeout: $0))
        },
        Setting("ChildOptions.init#killTimeout") { try await useOptions(ChildOptions(killTimeout: $0)) },
        Setting("ChildOptions.init#heartbeatTimeout") { (value: Duration) in
            try await startAndStop(Child("a", options: ChildOptions(heartbeatTimeout: value)) { _ in Polite() })
        },
        Setting("ChildReference.call#timeout", deadline: true) { value in
            try await whileRunning(Child("a") { _ in Plain() }) { root in
                let number = try await root.child("a", as: Plain.self).call(timeout: value) { $0.number }
                guard number == 1 else { throw Unexpected("the answer is \(number)") }
            }
        },
    ]

    private static func partitions(
        _ count: Int,
        _ intensity: RestartIntensity = RestartIntensity(3, within: .seconds(5))
    ) -> PartitionSupervisor<Plain> {
        PartitionSupervisor("app", partitions: count, intensity: intensity, logger: quiet) { id, _ in
            Child(id) { _ in Plain() }
        }
    }

    private static let supervisors: [Setting] = [
        Setting("Supervisor.init#intensity", called: "period") { try await restart(intensity: $0) },
        Setting("Supervisor.init#backoff") { (value: Backoff) in
            let root = Supervisor("app", intensity: RestartIntensity(3, within: .seconds(60)), logger: quiet) {
                Supervisor("inner", intensity: RestartIntensity(0, within: .seconds(1)), backoff: value) {
                    Child("a") { [fails = Once()] _ in FailsOnce(fails) }
                }
            }
            try await decide(root)
        },
        Setting("DynamicSupervisor.init#maximumChildren", called: "children") { (value: Int) in
            let dynamic = DynamicSupervisor("app", maximumChildren: value, logger: quiet)
            try await use(dynamic)
        },
        Setting("DynamicSupervisor.init#intensity", called: "period") { value in
            try await use(DynamicSupervisor("app", intensity: value, logger: quiet))
        },
        Setting("DynamicSupervisor.init#backoff") { (value: Backoff) in
            try await use(DynamicSupervisor("app", backoff: value, logger: quiet))
        },
        Setting("TaskSupervisor.init#maximumChildren", called: "children") { (value: Int) in
            let tasks = TaskSupervisor("app", maximumChildren: value, logger: quiet)
            try await tasks.start()
            do {
                _ = try await tasks.reference.async { _ in 1 }.value
            } catch {
                await tasks.stop()
                throw error
            }
            await tasks.stop()
        },
        Setting("TaskSupervisorReference.stream#maximumConcurrency") { (value: Int) in
            let tasks = TaskSupervisor("app", logger: quiet)
            try await tasks.start()
            var count = 0
            for try await _ in tasks.reference.stream(over: 0..<3, maximumConcurrency: value, { $0 }) { count += 1 }
            await tasks.stop()
            guard count == 3 else { throw Unexpected("\(count) of 3 results") }
        },
        Setting("TaskSupervisorReference.stream#timeout", deadline: true) { (value: Duration) in
            let tasks = TaskSupervisor("app", logger: quiet)
            try await tasks.start()
            var count = 0
            for try await _ in tasks.reference.stream(over: 0..<3, timeout: value, onTimeout: .kill, { $0 }) {
                count += 1
            }
            await tasks.stop()
            guard count == 3 else { throw Unexpected("\(count) of 3 results") }
        },
        Setting("SupervisedTask.result#within", deadline: true) { (value: Duration) in
            let tasks = TaskSupervisor("app", logger: quiet)
            try await tasks.start()
            let task = try await tasks.reference.async { _ in 1 }
            _ = try await task.result(within: value)
            await tasks.stop()
        },
        Setting("Sequence.results#within", deadline: true) { (value: Duration) in
            let tasks = TaskSupervisor("app", logger: quiet)
            try await tasks.start()
            let task = try await tasks.reference.async { _ in 1 }
            _ = try await [task, task].results(within: value)
            await tasks.stop()
        },
        Setting("PartitionSupervisor.init#partitions") { try await use(partitions($0)) },
        Setting("PartitionSupervisor.init#intensity", called: "period") { try await use(partitions(2, $0)) },
    ]

    private static let keyed: [Setting] = [
        Setting("KeyedSupervisor.init#idleTimeout") { (value: Duration) in
            try await find(KeyedSupervisor("app", idleTimeout: value, logger: quiet) { _, _ in Plain() })
        },
        Setting("KeyedSupervisor.init#partitions") { (value: Int) in
            try await find(KeyedSupervisor("app", partitions: value, logger: quiet) { _, _ in Plain() })
        },
        Setting("KeyedSupervisor.init#intensity", called: "period") { (value: RestartIntensity) in
            try await find(KeyedSupervisor("app", intensity: value, logger: quiet) { _, _ in Plain() })
        },
        Setting("KeyedWhenExceeded.cooldown") { (value: Duration) in
            try await find(KeyedSupervisor("app", whenExceeded: .cooldown(value), logger: quiet) { _, _ in Plain() })
        },
        Setting("ProcessLimit.leastRecentlyUsed", called: "limit") { (value: Int) in
            try await find(KeyedSupervisor("app", limit: .leastRecentlyUsed(value), logger: quiet) { _, _ in Plain() })
        },
        Setting("ProcessLimit.refuse", called: "limit") { (value: Int) in
            try await find(KeyedSupervisor("app", limit: .refuse(value), logger: quiet) { _, _ in Plain() })
        },
        Setting("KeyedReference.call#timeout", deadline: true) { (value: Duration) in
            try await find(KeyedSupervisor("app", logger: quiet) { _, _ in Plain() }, timeout: value)
        },
        Setting("KeyedReference.findOrStart#timeout", deadline: true) { (value: Duration) in
            let keyed = KeyedSupervisor<Int, Plain>("app", logger: quiet) { _, _ in Plain() }
            try await keyed.start()
            do {
                try await keyed[1].findOrStart(timeout: value)
            } catch {
                await keyed.stop()
                throw error
            }
            await keyed.stop()
        },
    ]

    private static let timers: [Setting] = [
        Setting("ChildContext.schedule#after") { (value: Duration) in
            try await whileRunning(Child("a") { Keeping($0) }) { root in
                let context = try await root.child("a", as: Keeping.self).call { $0.context }
                context.schedule(after: value) {}.cancel()
                context.schedule(after: value) {}
            }
        },
        Setting("ChildContext.schedule#every") { (value: Duration) in
            try await whileRunning(Child("a") { Keeping($0) }) { root in
                let context = try await root.child("a", as: Keeping.self).call { $0.context }
                context.schedule(every: value) {}
            }
        },
        Setting("ChildReference.stateReport#timeout", deadline: true) { (value: Duration) in
            try await whileRunning(Child("a") { Keeping($0) }) { root in
                _ = try await root.child("a", as: Keeping.self).stateReport(timeout: value)
            }
        },
        Setting("Pid.stateReport#timeout", deadline: true) { (value: Duration) in
            try await whileRunning(Child("a") { Keeping($0) }) { root in
                _ = try await root.child("a", as: Keeping.self).pid?.stateReport(timeout: value)
            }
        },
        Setting("PeriodicWorker.init#every") { (value: Duration) in
            try await poll { PeriodicWorker($0, every: value, $1) }
        },
        Setting("PeriodicWorker.init#jitter") { (value: Double) in
            try await poll { PeriodicWorker($0, every: .milliseconds(1), jitter: value, $1) }
        },
        Setting("PeriodicWorker.init#firstAfter") { (value: Duration) in
            // By hand, since the first run may be ages away.
            try await whileRunning(
                Child("a") { PeriodicWorker($0, every: .seconds(3600), firstAfter: value) { _ in } }
            ) { root in
                try await root.child("a", as: PeriodicWorker.self).call { try await $0.runNow() }
            }
        },
        Setting("PeriodicWorker.init#backoff") { (value: Backoff) in
            let root = Supervisor("app", intensity: RestartIntensity(0, within: .seconds(1)), logger: quiet) {
                Child("a") {
                    PeriodicWorker($0, every: .seconds(3600), backoff: value) { _ in throw Unexpected("on purpose") }
                }
            }
            try await root.start()
            let worker = try root.child("a", as: PeriodicWorker.self)
            do {
                while try await worker.call({ $0.failuresInARow }) == 0 { await Task.yield() }
            } catch {
                // It has crashed with what is wrong, and the tree ends with that.
                if let problem = backoffProblem(of: error) { throw problem }
                try await root.run()
            }
            await root.stop()
        },
    ]

    private static func backoffProblem(of error: any Error) -> (any Error)? {
        guard case CallError.exited(_, .crashed(let cause)) = error else { return nil }
        return cause
    }

    private static func poll(
        _ make:
            @escaping @Sendable (ChildContext, @escaping @Sendable (ChildContext) async throws -> Void) ->
            PeriodicWorker
    ) async throws {
        try await whileRunning(Child("a") { make($0) { _ in } }) { root in
            let worker = try root.child("a", as: PeriodicWorker.self)
            try await worker.call { try await $0.runNow() }
        }
    }

    private static func find(_ keyed: KeyedSupervisor<Int, Plain>, timeout: Duration = .seconds(5)) async throws {
        try await keyed.start()
        do {
            _ = try await keyed[1].call(timeout: timeout) { $0.number }
            if timeout == .seconds(5) {
                keyed[1].pid?.kill()
                _ = try await keyed[1].call(timeout: .seconds(1)) { $0.number }
            }
        } catch CallError.restarting {
            // Its backoff or cooldown takes longer.
        } catch {
            await keyed.stop()
            throw error
        }
        await keyed.stop()
    }

    private static let clocks: [Setting] = [
        Setting("SystemSupervisionClock.schedule#after") { value in
            SystemSupervisionClock.shared.schedule(after: value) {}.cancel()
            _ = SystemSupervisionClock.shared.schedule(after: value) {}
        },
        Setting("SupervisionClock.schedule#after") { value in
            let clock: any SupervisionClock = SystemSupervisionClock.shared
            clock.schedule(after: value) {}.cancel()
        },
    ]
}

struct Unexpected: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

actor Plain {
    let number = 1
}

actor Keeping: StateReporting {
    let context: ChildContext
    init(_ context: ChildContext) { self.context = context }
    func stateReport() -> StateReport { StateReport("here") }
}

/// Runs until it is stopped.
actor Polite: Worker {
    func run() async throws { try await Task.sleep(for: .seconds(3600)) }
}

final class Once: Sendable {
    private let used = Mutex(false)
    func take() -> Bool {
        used.withLock { used in
            defer { used = true }
            return !used
        }
    }
}

actor FailsOnce: Worker {
    let fails: Once
    init(_ fails: Once) { self.fails = fails }
    func run() async throws {
        if fails.take() { throw Unexpected("on purpose") }
        try await Task.sleep(for: .seconds(3600))
    }
}

/// Starts a tree, has its child fail once, and waits until its supervisor has decided.
private func restart(
    backoff: Backoff? = nil,
    intensity: RestartIntensity = RestartIntensity(3, within: .seconds(60)),
    whenExceeded: WhenExceeded = .escalate
) async throws {
    try await decide(
        Supervisor("app", intensity: intensity, whenExceeded: whenExceeded, logger: quiet) {
            Child("a", options: ChildOptions(backoff: backoff)) { [fails = Once()] _ in FailsOnce(fails) }
        }
    )
}

private func decide(_ root: Supervisor, after action: () throws -> Void = {}) async throws {
    var events = root.events.makeAsyncIterator()
    try await root.start()
    try action()
    loop: while let event = await events.next() {
        switch event.kind {
        case .restarting, .coolingDown, .gaveUp: break loop
        default: continue
        }
    }
    await root.stop()
}

private func startAndStop(_ child: Child) async throws {
    try await whileRunning(child) { _ in }
}

private func whileRunning(_ child: Child, _ body: (Supervisor) async throws -> Void) async throws {
    let root = Supervisor("app", intensity: RestartIntensity(1000, within: .seconds(1)), logger: quiet) { child }
    try await root.start()
    do {
        try await body(root)
    } catch {
        await root.stop()
        throw error
    }
    await root.stop()
}

private func use(_ dynamic: DynamicSupervisor) async throws {
    try await dynamic.start()
    do {
        _ = try await dynamic.reference.startChild(Child("a") { _ in Plain() })
    } catch {
        await dynamic.stop()
        throw error
    }
    await dynamic.stop()
}

private func use(_ partitions: PartitionSupervisor<Plain>) async throws {
    let root = Supervisor("root", logger: quiet) { partitions }
    try await root.start()
    await root.stop()
}
