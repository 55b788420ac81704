import DequeModule

@testable import Supervision

/// A world around a ``SupervisorCore``: children that start and stop at once, unless a test decides otherwise. Synchronous.
struct CoreHarness {
    var core: SupervisorCore
    /// Whether the direct path is tried first.
    var decidesDirectly = true
    var now = Duration.zero
    var log: [String] = []
    /// How the next starts of a child go; after that they succeed.
    var starts: [String: [Start]] = [:]
    /// Children that do not answer a stop until ``exit(_:_:)`` is called.
    var slowToStop: Set<String> = []
    var delays: [Int: (number: UInt64, due: Duration)] = [:]
    var live: [String: (slot: Int, generation: UInt64)] = [:]
    var finished: ExitReason?
    /// Every effect, in order.
    private(set) var effects: [String] = []
    private var events = Deque<SupervisorCore.Event>()

    enum Start {
        case succeeds, fails, ignores
        /// Neither returns nor fails until ``started(_:)`` is called.
        case hangs
    }

    init(
        _ strategy: Strategy = .oneForOne,
        intensity: RestartIntensity = .init(3, within: .seconds(5)),
        whenExceeded: WhenExceeded = .escalate,
        autoShutdown: AutoShutdown = .never,
        _ children: [SupervisorCore.Settings]
    ) {
        core = SupervisorCore(
            name: "top",
            strategy: strategy,
            intensity: intensity,
            whenExceeded: whenExceeded,
            autoShutdown: autoShutdown,
            seed: 1
        )
        for child in children { _ = core.add(child) }
    }

    init(
        _ strategy: Strategy = .oneForOne,
        intensity: RestartIntensity = .init(3, within: .seconds(5)),
        _ ids: String...
    ) {
        self.init(strategy, intensity: intensity, ids.map { SupervisorCore.Settings(id: $0) })
    }

    mutating func send(_ event: SupervisorCore.Event) {
        events.append(event)
        while let next = events.popFirst() {
            var decided: [SupervisorCore.Effect] = []
            if decidesDirectly {
                core.handle(next, at: now, &decided)
            } else {
                core.handleGenerally(next, at: now, &decided)
            }
            for effect in decided {
                effects.append("\(effect)")
                perform(effect)
            }
        }
    }

    mutating func boot() {
        send(.boot)
        log = []
    }

    mutating func exit(_ id: String, _ reason: ExitReason = .crashed(TestFailure())) {
        guard let (slot, generation) = live.removeValue(forKey: id) else { return }
        // A process that ends before its start returned has failed to start.
        let isStarting = status(id) == "starting"
        send(
            isStarting
                ? .startFailed(slot, generation: generation, reason) : .exited(slot, generation: generation, reason)
        )
    }

    mutating func started(_ id: String) {
        guard let (slot, generation) = live[id] else { return }
        send(.started(slot, generation: generation))
    }

    /// Turns the clock, and runs the restarts that are due on the way.
    mutating func advance(by duration: Duration) {
        let end = now + duration
        while let (slot, delay) = delays.filter({ $0.value.due <= end }).min(by: {
            ($0.value.due, $0.key) < ($1.value.due, $1.key)
        }) {
            delays[slot] = nil
            now = delay.due
            send(.delayElapsed(slot, delay: delay.number))
        }
        now = end
    }

    func status(_ id: String) -> String {
        guard let slot = core.children.slot(of: id), let record = core.children[slot] else { return "unknown" }
        switch record.status {
        case .stopped: return "stopped"
        case .starting: return "starting"
        case .running: return "running"
        case .down: return "down"
        case .stopping: return "stopping"
        case .restarting: return "restarting"
        }
    }

    func id(_ slot: Int) -> String { core.children[slot]?.settings.id ?? "?" }

    private mutating func perform(_ effect: SupervisorCore.Effect) {
        switch effect {
        case .start(let slot, let generation):
            let id = id(slot)
            log.append("start \(id)")
            let plan = starts[id].flatMap { $0.first } ?? .succeeds
            if starts[id]?.isEmpty == false { starts[id]?.removeFirst() }
            live[id] = (slot, generation)
            switch plan {
            case .succeeds: events.append(.started(slot, generation: generation))
            case .fails:
                live[id] = nil
                events.append(.startFailed(slot, generation: generation, .crashed(TestFailure("start"))))
            case .ignores:
                live[id] = nil
                events.append(.ignored(slot, generation: generation))
            case .hangs: break
            }
        case .stop(let slot, let generation):
            let id = id(slot)
            log.append("stop \(id)")
            guard !slowToStop.contains(id) else { return }
            live[id] = nil
            events.append(.exited(slot, generation: generation, .shutdown()))
        case .kill(let slot, let generation):
            let id = id(slot)
            log.append("kill \(id)")
            live[id] = nil
            events.append(.exited(slot, generation: generation, .killed))
        case .scheduleDelay(let slot, let number, let duration):
            log.append("delay \(id(slot))")
            delays[slot] = (number, now + duration)
        case .cancelDelay(let slot): delays[slot] = nil
        case .retry(let slot, let generation): events.append(.retry(slot, generation: generation))
        case .report(let slot, .gaveUp): log.append("gave up on \(id(slot))")
        case .report: break
        case .adopt: break
        case .reply(_, let reply): log.append("reply \(reply)")
        case .forget(_, let id): log.append("forget \(id)")
        case .booted: log.append("booted")
        case .finished(let reason):
            finished = reason
            log.append("finished")
        }
    }
}

extension SupervisorCore.Settings {
    convenience init(
        id: String,
        restart: Restart = .permanent,
        shutdown: Shutdown = .timeout(.seconds(5)),
        isSignificant: Bool = false,
        backoff: Backoff? = nil
    ) {
        self.init(
            id: id,
            policy: ChildPolicy(
                restart: restart,
                options: ChildOptions(shutdown: shutdown, significant: isSignificant, backoff: backoff)
            )
        )
    }
}

extension ShutdownLadder {
    init(hasRun: Bool, hasHook: Bool, shutdown: Shutdown, killTimeout: Duration) {
        self.init(
            hasRun: hasRun,
            hasHook: hasHook,
            policy: ChildPolicy(options: ChildOptions(shutdown: shutdown, killTimeout: killTimeout))
        )
    }
}
