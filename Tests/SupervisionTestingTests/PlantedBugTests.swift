import Supervision
import SupervisionTesting
import Synchronization
import Testing

/// The kit finds what it is there for.
@Suite("Planted bugs", .timeLimit(.minutes(2)))
struct PlantedBugTests {
    @Test("state that outlives its worker")
    func globalState() async throws {
        let global = Shared<[String]>([])
        actor Cart {
            let global: Shared<[String]>
            init(_ global: Shared<[String]>) { self.global = global }
            func add(_ item: String) { global.with { $0.append(item) } }
            func count() -> Int { global.with { $0.count } }
        }
        let chaos = Chaos(
            invariants: [
                Chaos.Invariant("a cart that was started anew is empty") { tree in
                    let cart = try tree.supervisor.child("cart", as: Cart.self)
                    try await cart.call { $0.add("book") }
                } check: { scene, _ in
                    guard scene.effects.restarted.contains("app/cart") else { return }
                    let count = try await scene.tree.supervisor.child("cart", as: Cart.self).call { $0.count() }
                    try Chaos.require(count == 0, "\(count) items")
                }
            ]
        ) { clock in
            Supervisor("app", logger: quiet, clock: clock) {
                Child("cart") { _ in Cart(global) }
                Child("other") { _ in Keeper() }
            }
        }
        let failure = try #require(try await failure { try await chaos.matrix(Chaos.Way.survivable) })
        #expect(failure.report.failures.map(\.scenario.description) == Chaos.Way.survivable.map { "\($0) app/cart" })
    }

    /// A server that asks its connection for a handle once, when it is started.
    private actor Connection {
        nonisolated let pid: Pid
        init(_ context: ChildContext) { pid = context.pid }
        func ping() {}
    }

    private actor Server {
        let connection: Pid?
        init(_ context: ChildContext) { connection = context.reference("connection", as: Connection.self).pid }
        func serve() throws {
            guard let connection, connection.isAlive else { throw Chaos.Invariant.Violation("its connection is dead") }
        }
    }

    private func serving(_ strategy: Strategy, connectionFirst: Bool) -> Chaos {
        Chaos(
            invariants: [
                Chaos.Invariant("the server serves") { scene in
                    let server = try scene.tree.supervisor.child("server", as: Server.self)
                    try await server.call { try $0.serve() }
                }
            ]
        ) { clock in
            Supervisor("app", strategy: strategy, logger: quiet, clock: clock) {
                if connectionFirst {
                    Child("connection") { Connection($0) }
                    Child("server") { Server($0) }
                } else {
                    Child("server") { Server($0) }
                    Child("connection") { Connection($0) }
                }
            }
        }
    }

    @Test("a dependency between siblings under one_for_one")
    func wrongStrategy() async throws {
        let chaos = serving(.oneForOne, connectionFirst: true)
        let failure = try #require(try await failure { try await chaos.matrix([.kill, .crash]) })
        #expect(failure.report.failures.map(\.scenario.description) == ["kill app/connection", "crash app/connection"])
        try await serving(.restForOne, connectionFirst: true).matrix()
        try await serving(.oneForAll, connectionFirst: true).matrix()
    }

    @Test("a child that is started before what it needs")
    func wrongOrder() async throws {
        let failure = try #require(
            try await failure { try await serving(.oneForAll, connectionFirst: false).matrix([.kill]) }
        )
        #expect("\(failure)".contains("broken: the server serves"))
    }

    @Test("a worker that ignores its cancellation")
    func ignoresCancellation() async throws {
        actor Stubborn: Worker {
            let gate: Shared<CheckedContinuation<Void, Never>?>
            init(_ gate: Shared<CheckedContinuation<Void, Never>?>) { self.gate = gate }
            func run() async { await withCheckedContinuation { continuation in gate.with { $0 = continuation } } }
        }
        let gates = Shared<[Shared<CheckedContinuation<Void, Never>?>]>([])
        let chaos = Chaos(stallTimeout: .milliseconds(100)) { clock in
            Supervisor("app", logger: quiet, clock: clock) {
                Child("good") { Waiter($0) }
                Child("stubborn") { _ in
                    let gate = Shared<CheckedContinuation<Void, Never>?>(nil)
                    gates.with { $0.append(gate) }
                    return Stubborn(gate)
                }
            }
        }
        let failure = try #require(try await failure { try await chaos.matrix([.kill]) })
        let kill = try #require(failure.report.failures.first { $0.scenario == "kill app/stubborn" })
        let found = kill.findings.map(\.description)
        #expect(found.contains("ignores its cancellation: app/stubborn"), "\(found)")
        #expect(found.contains { $0.hasPrefix("left over: zombies: app/stubborn (Stubborn)") }, "\(found)")
        for gate in gates.with({ $0 }) { gate.with { $0 }?.resume() }
    }

    @Test("a worker that is asked to end and goes on")
    func ignoresStop() async throws {
        actor Deaf: Worker {
            init(_ context: ChildContext) { _ = context.stopRequest }
            func run() async throws { try await Task.sleep(for: .seconds(3600)) }
        }
        let chaos = Chaos(timeout: .seconds(1), stallTimeout: .milliseconds(100)) { clock in
            Supervisor("app", logger: quiet, clock: clock) { Child("deaf") { Deaf($0) } }
        }
        let failure = try #require(try await failure { try await chaos.replay("graceful-stop app/deaf") })
        #expect("\(failure)".contains("was asked to stop and keeps running: app/deaf"))
    }

    @Test("an intensity that is too low for how often things fail")
    func lowIntensity() async throws {
        @Sendable
        func tree(_ clock: ManualClock, restarts: Int) -> Supervisor {
            Supervisor("app", intensity: .init(restarts, within: .seconds(10)), logger: quiet, clock: clock) {
                Child("a") { _ in Keeper() }
                Child("b") { _ in Keeper() }
                Child("c") { _ in Keeper() }
            }
        }
        let low = Chaos { clock in tree(clock, restarts: 2) }
        let failure = try #require(
            try await failure {
                try await low.storm(seed: 1, kills: 20, pace: .pausing(.seconds(3)), weights: [.kill: 1])
            }
        )
        let found = try #require(failure.report.failures.first)
        #expect(found.scenario.count == 3)
        #expect("\(failure)".contains("app gave up: the tree ends"))
        try await Chaos { clock in tree(clock, restarts: 4) }
            .storm(seed: 1, kills: 20, pace: .pausing(.seconds(3)), weights: [.kill: 1])
    }

    @Test("a tree that restarts more than its author thinks")
    func wrongExpectation() async throws {
        let chaos = Chaos(expecting: { $0.way == .kill ? .onlyThisChild : nil }) { clock in
            Supervisor("app", strategy: .oneForAll, logger: quiet, clock: clock) {
                Child("a") { _ in Keeper() }
                Child("b") { _ in Keeper() }
            }
        }
        let failure = try #require(
            try await failure { try await chaos.matrix([.kill, .crash], only: { !$0.isSupervisor }) }
        )
        #expect(failure.report.failures.map(\.scenario) == ["kill app/a", "kill app/b"])
        #expect("\(failure)".contains("restarted: everything below the root; expected: only this child"))
    }

    @Test("a start that does not come back after two failures")
    func fragileStart() async throws {
        let chaos = Chaos(expecting: { _ in .onlyThisChild }) { clock in
            Supervisor("app", logger: quiet, clock: clock) {
                Supervisor("group", intensity: .init(1, within: .seconds(1))) { Child("a") { _ in Keeper() } }
            }
        }
        let failure = try #require(try await failure { try await chaos.matrix(only: { $0.path == "app/group/a" }) })
        #expect(failure.report.failures.first?.scenario == "failing-restart(1) app/group/a")
        #expect("\(failure)".contains("app/group gave up: everything below the root"), "\(failure)")
    }
}
