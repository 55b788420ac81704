import Supervision
import SupervisionTesting
import Testing

/// The kit's model of the rules and the real supervisors agree, for every way to end every process.
@Suite("Predictions", .timeLimit(.minutes(2)))
struct PredictionTests {
    static let strategies: [Strategy] = [.oneForOne, .oneForAll, .restForOne]
    static let restarts: [Restart] = [.permanent, .transient, .temporary]

    @Test("say what restarts, for each strategy and restart type", arguments: strategies, restarts)
    func rules(strategy: Strategy, restart: Restart) async throws {
        let chaos = Chaos { clock in
            Supervisor("app", logger: quiet, clock: clock) {
                Child("first") { _ in Keeper() }
                Supervisor("group", strategy: strategy) {
                    Child("a") { Waiter($0) }
                    Child("b", restart: restart) { Waiter($0, asked: false) }
                    Child("c", restart: .temporary) { _ in Keeper() }
                    Child("d", restart: .transient) { _ in Keeper() }
                }
                Child("last") { Waiter($0) }
            }
        }
        let report = try await chaos.matrix()
        #expect(report.rows.count == 7 * Chaos.Way.all.count + 5)
    }

    @Test("know that a supervisor which gives up is a child as any other", arguments: restarts, strategies)
    func escalation(restart: Restart, strategy: Strategy) async throws {
        let chaos = Chaos { clock in
            Supervisor("app", strategy: strategy, intensity: .init(4, within: .seconds(5)), logger: quiet, clock: clock)
            {
                Child("first") { _ in Keeper() }
                Supervisor("inner", strategy: .oneForAll, intensity: .init(1, within: .seconds(5)), restart: restart) {
                    Child("x") { _ in Keeper() }
                    Supervisor("innermost", intensity: .init(0, within: .seconds(5))) {
                        Child("y") { Waiter($0) }
                    }
                }
                Child("last") { _ in Keeper() }
            }
        }
        try await chaos.matrix()
    }

    @Test(
        "know automatic shutdown",
        arguments: [AutoShutdown.anySignificant, .allSignificant],
        [Restart.transient, .temporary]
    )
    func automaticShutdown(mode: AutoShutdown, restart: Restart) async throws {
        let chaos = Chaos { clock in
            Supervisor("app", strategy: .restForOne, logger: quiet, clock: clock) {
                Supervisor("batch", strategy: .oneForAll, autoShutdown: mode) {
                    Child("one", restart: restart, options: ChildOptions(significant: true)) { Waiter($0) }
                    Child("two", restart: restart, options: ChildOptions(significant: true)) { _ in Keeper() }
                    Child("three") { _ in Keeper() }
                }
                Child("after") { _ in Keeper() }
            }
        }
        try await chaos.matrix()
    }

    @Test("know that a supervisor that cools down tries for ever")
    func cooldown() async throws {
        let chaos = Chaos { clock in
            Supervisor("app", whenExceeded: .cooldown(.seconds(30)), logger: quiet, clock: clock) {
                Child("a") { _ in Keeper() }
                Child("b", options: ChildOptions(backoff: Backoff(minimum: .seconds(2), maximum: .seconds(60)))) {
                    Waiter($0)
                }
            }
        }
        let report = try await chaos.matrix()
        let always = try #require(report.rows.first { $0.kills == [.init("app/a", .failingRestart(.always))] })
        #expect(always.effects == Chaos.Effects(restarted: ["app/a"], keepsTrying: true))
        #expect(always.turned >= .seconds(30))
    }

    @Test("know children that were added at run time")
    func dynamicChildren() async throws {
        let chaos = Chaos(
            ready: { tree in
                let sessions = try tree.supervisor.dynamicSupervisor("sessions")
                for restart in Self.restarts {
                    _ = try await sessions.startChild(Child("session", restart: restart) { Waiter($0) })
                }
                _ = try await tree.supervisor.reference().startChild(Child("extra") { _ in Keeper() })
            }
        ) { clock in
            Supervisor("app", strategy: .restForOne, logger: quiet, clock: clock) {
                Child("first") { _ in Keeper() }
                DynamicSupervisor("sessions")
            }
        }
        let report = try await chaos.matrix()
        let first = try #require(report.rows.first { $0.kills == [.init("app/first", .kill)] })
        #expect(first.effects.restarted == ["app/first", "app/sessions", "app/extra"])
        #expect(first.effects.removed.count == 3)
    }

    private func keyed(
        _ whenExceeded: KeyedWhenExceeded,
        _ restart: Restart = .transient,
        intensity: Int = 1,
        strategy: Strategy = .oneForOne
    ) -> Chaos {
        let current = Shared<KeyedSupervisor<Int, Waiter>?>(nil)
        return Chaos(
            ready: { _ in
                guard let sessions = current.with({ $0 }) else { return }
                for key in 0..<3 { try await sessions[key].findOrStart() }
            }
        ) { clock in
            let sessions = KeyedSupervisor<Int, Waiter>(
                "sessions",
                partitions: 2,
                processRestart: restart,
                intensity: .init(intensity, within: .seconds(5)),
                whenExceeded: whenExceeded
            ) { _, context in Waiter(context) }
            current.with { $0 = sessions }
            return Supervisor("app", strategy: strategy, logger: quiet, clock: clock) {
                Child("first") { _ in Keeper() }
                sessions
                Child("last") { _ in Keeper() }
            }
        }
    }

    @Test(
        "know that a keyed supervisor counts the restarts of each process by itself",
        arguments: [KeyedWhenExceeded.giveUp, .escalate, .cooldown(.seconds(30))],
        [Restart.permanent, .transient, .temporary]
    )
    func keyedProcesses(whenExceeded: KeyedWhenExceeded, restart: Restart) async throws {
        let report = try await keyed(whenExceeded, restart).matrix()
        #expect(report.rows.contains { $0.kills.first?.path == "app/sessions/1" })
        guard restart != .temporary else { return }
        let always = try #require(report.rows.first { $0.kills == [.init("app/sessions/1", .failingRestart(.always))] })
        switch whenExceeded {
        case .giveUp: #expect(always.effects == Chaos.Effects(removed: ["app/sessions/1"]))
        case .cooldown: #expect(always.effects == Chaos.Effects(restarted: ["app/sessions/1"], keepsTrying: true))
        case .escalate: #expect(always.effects.restarted.contains("app/sessions"))
        }
    }

    @Test("know what the end of one process by key means for others", arguments: strategies)
    func keyedEscalation(strategy: Strategy) async throws {
        let report = try await keyed(.escalate, intensity: 0, strategy: strategy).matrix()
        let kill = try #require(report.rows.first { $0.kills == [.init("app/sessions/1", .kill)] })
        #expect(kill.effects.removed == ["app/sessions/0", "app/sessions/1", "app/sessions/2"])
        #expect(kill.effects.gaveUp.contains("app/sessions"))
        #expect(kill.effects.restarted.contains("app/last") == (strategy != .oneForOne))
    }

    @Test("know that the children of a dynamic supervisor share its intensity", arguments: [0, 1])
    func dynamicIntensity(restarts: Int) async throws {
        let chaos = Chaos(
            ready: { tree in
                let sessions = try tree.supervisor.dynamicSupervisor("sessions")
                for restart in Self.restarts {
                    _ = try await sessions.startChild(Child("session", restart: restart) { Waiter($0) })
                }
            }
        ) { clock in
            Supervisor("app", logger: quiet, clock: clock) {
                DynamicSupervisor("sessions", intensity: .init(restarts, within: .seconds(5)))
                Child("last") { _ in Keeper() }
            }
        }
        try await chaos.matrix()
    }

    @Test("know what comes of a child that cannot be stopped")
    func unstoppable() async throws {
        let chaos = Chaos { clock in
            Supervisor("app", logger: quiet, clock: clock) {
                Supervisor("group") {
                    Child("a", options: ChildOptions(onUnstoppable: .escalate)) { Waiter($0) }
                    Child("b") { _ in Keeper() }
                }
                Child("fatal", options: ChildOptions(onUnstoppable: .crashProcess)) { _ in Keeper() }
            }
        }
        let report = try await chaos.matrix()
        let hang = try #require(report.rows.first { $0.kills == [.init("app/group/a", .hang)] })
        #expect(hang.effects.restarted == ["app/group", "app/group/a", "app/group/b"])
        #expect(!report.rows.contains { $0.kills.first?.path == "app/fatal" && $0.kills.first?.way == .hang })
    }

    @Test("hold in real time too")
    func realTime() async throws {
        let chaos = Chaos {
            Supervisor("app", strategy: .oneForAll, logger: quiet) {
                Child("a", options: ChildOptions(killTimeout: .milliseconds(500))) { Waiter($0) }
                Child("b", options: ChildOptions(killTimeout: .milliseconds(500))) { _ in Keeper() }
            }
        }
        try await chaos.matrix()
    }
}
