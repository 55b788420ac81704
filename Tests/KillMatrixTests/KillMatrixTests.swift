import AMQPPool
import BrokerSupport
import ChaosSupport
import LocalBroker
import RPCCaller
import RPCReceiver
import Supervision
import SupervisionTesting
import Testing

/// Every process of the caller's and the receiver's tree, ended in every way, while calls wait and others are on their way
/// (design part 7). `scripts/kill-matrix` runs them with `KILL_MATRIX` in the environment: then nothing is left out, and the
/// tables are written to that folder.
@Suite("The kill matrix", .timeLimit(.minutes(15)))
struct KillMatrixTests {
    /// What forgets the calls that wait.
    static let fatal: Set<String> = ["caller/registry", "caller/pending", "caller/pool"]

    @Test(
        "of the caller: calls are answered, or fail at once with the reason when the table of calls is gone",
        arguments: Matrix.shares
    )
    func caller(_ share: Int) async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let gates = Gates()
            let receiver = try Services.receiver(url) { Services.procedures(gates) }
            try await receiver.start()
            let view = BrokerView(broker, virtualHost)
            let current = Latest<RPCCaller>()
            var chaos = Chaos(
                invariants: [
                    Self.calls(current, gates, isCallers: true, isFatal: { Self.fatal.contains($0) }),
                    Self.view(view, current),
                ],
                timeout: .seconds(120),
                ready: { _ in
                    // What the root's end left behind.
                    gates.open()
                    try await current.value().waitUntilReady(timeout: .seconds(60))
                    // With one consumer the queue would go with its connection.
                    try await Self.untilAsExpected(view, current)
                }
            ) {
                let caller = try Services.caller(url)
                current.set(caller)
                return caller.supervisor
            }
            chaos.shrinkingTime = .seconds(60)
            defer { gates.open() }
            try await Matrix.play(chaos, "caller", share: share)
            gates.open()
            await receiver.stop()
        }
    }

    @Test("of the receiver: every request is answered, by another incarnation if need be", arguments: Matrix.shares)
    func receiver(_ share: Int) async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let gates = Gates()
            let current = Latest<RPCCaller>()
            let receivers = Latest<RPCReceiver>()
            // The queue has to be there before the caller calls.
            let first = try Services.receiver(url) { Services.procedures(gates) }
            try await first.start()
            try await first.waitUntilReady(timeout: .seconds(60))
            await first.stop()
            let caller = try Services.caller(url)
            current.set(caller)
            try await caller.start()
            try await caller.waitUntilReady(timeout: .seconds(60))
            let view = BrokerView(broker, virtualHost)
            var chaos = Chaos(
                invariants: [
                    Self.calls(current, gates, isCallers: false, isFatal: { _ in false }), Self.view(view, current),
                ],
                timeout: .seconds(120),
                ready: { _ in
                    gates.open()
                    try await receivers.value().waitUntilReady(timeout: .seconds(60))
                }
            ) {
                let receiver = try Services.receiver(url) { Services.procedures(gates) }
                receivers.set(receiver)
                return receiver.supervisor
            }
            chaos.shrinkingTime = .seconds(60)
            defer { gates.open() }
            try await Matrix.play(chaos, "receiver", share: share)
            gates.open()
            await caller.stop()
        }
    }

    /// A hundred calls wait in their handlers and two hundred are on their way while a process ends.
    ///
    /// - Parameter isCallers: Whether the tree is the caller's: its end is the end of the calls that wait.
    /// - Parameter isFatal: Whether the end of this process ends the calls that wait.
    /// - Parameter isFailure: Whether they may fail so when it does.
    static func calls(
        _ current: Latest<RPCCaller>,
        _ gates: Gates,
        isCallers: Bool,
        isFatal: @escaping @Sendable (String) -> Bool,
        isFailure: @escaping @Sendable (RPCError) -> Bool = { if case .callerRestarted = $0 { true } else { false } }
    ) -> Chaos.Invariant {
        var invariant = Chaos.Invariant("every call ended once, as it should, and the next one works") { _ in
            gates.open()
            gates.close()
            let caller = try current.value()
            let held = (0..<100).map { n in Task { try await caller.call("math", "hold", n, as: Int.self) } }
            await gates.waitForArrivals(100)
            let passing = (0..<200).map { n in Task { try await caller.call("math", "add", [n, 1], as: Int.self) } }
            return (held, passing)
        } check: { scene, calls in
            let (held, passing) = calls
            let caller = try current.value()
            let isFatal = scene.effects.treeEnded || scene.kills.contains { isFatal($0.path) }
            if !isFatal { gates.open() }
            for (n, task) in held.enumerated() {
                switch (await task.result, isFatal) {
                case (.success(n), false): continue
                case (.failure(let error as RPCError), true) where isFailure(error): continue
                case (let other, _): throw Chaos.Invariant.Violation("waiting call \(n): \(other)")
                }
            }
            gates.open()
            // Those that begin after the end wait for another incarnation, as long as they may.
            if scene.effects.treeEnded { return }
            for (n, task) in passing.enumerated() {
                switch await task.result {
                case .success(n + 1): continue
                case .failure(let error as RPCError) where isFatal && isFailure(error): continue
                case let other: throw Chaos.Invariant.Violation("passing call \(n): \(other)")
                }
            }
            let sum = try await caller.call("math", "add", [4, 9], as: Int.self)
            try Chaos.require(sum == 13, "4 + 9 = \(sum)")
            try Chaos.require(caller.pendingCount == 0, "\(caller.pendingCount) calls are left in the table")
        }
        invariant.holdsAfterTheEnd = isCallers
        return invariant
    }

    /// What the broker sees in the end.
    private static func view(_ view: BrokerView, _ current: Latest<RPCCaller>) -> Chaos.Invariant {
        Chaos.Invariant("the broker has what it should, and nothing else") { _ in
            try await untilAsExpected(view, current)
        }
    }

    private static func untilAsExpected(_ view: BrokerView, _ current: Latest<RPCCaller>) async throws {
        try await view.becomes(
            [
                "math.rpcs: 2 consumers, 0 messages", "reply queue: 2 consumers, 0 messages",
                "4 connections, 4 channels",
            ],
            replyQueue: { try current.value().replyQueueName }
        )
    }
}
