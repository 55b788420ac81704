import AMQPPool
import BrokerSupport
import Foundation
import LocalBroker
import RPCCaller
import RPCReceiver
import Supervision
import SupervisionTesting
import Testing

/// Everything at once. `RPC_STORM_CALLS` in the environment says how many calls (`scripts/rpc-storm` makes a hundred thousand), and
/// `RPC_STORM_SEED` repeats the choices of an earlier run.
@Suite("A storm of calls", .timeLimit(.minutes(45)))
struct CallStormTests {
    static let calls = number("RPC_STORM_CALLS") ?? 5000
    static let seed = number("RPC_STORM_SEED").map(UInt64.init) ?? .random(in: .min ... .max)

    private static func number(_ name: String) -> Int? {
        ProcessInfo.processInfo.environment[name].flatMap { Int($0) }
    }

    /// Numbers that a seed repeats.
    struct Dice: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var mixed = state
            mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
            return mixed ^ (mixed >> 31)
        }
    }

    static let paths: [(tree: Bool, path: String)] =
        (KillTests.survivable + KillTests.fatal).map { (true, $0) }
        + [
            "receiver/pool/connection-supervisor-1/channel-supervisor/channel-1",
            "receiver/pool/connection-supervisor-2/connection", "receiver/pool", "receiver/handlers",
        ].map { (false, $0) }

    @Test(
        "calls with random timeouts, cancellations and kills end each once, and leave no entry, no channel and no queue",
        arguments: [RPCReplies.queue, .direct]
    )
    func storm(_ replies: RPCReplies) async throws {
        try await withServices(
            caller: { configuration in
                configuration.intensity = RestartIntensity(100_000, within: .seconds(1))
                configuration.replies = replies
            },
            receiver: { configuration in
                configuration.intensity = RestartIntensity(100_000, within: .seconds(1))
                configuration.concurrency = 50
            }
        ) { services in
            let begun = Counter()
            let ended = Counter()
            let workers = (0..<64).map { worker in
                Task {
                    var dice = Dice(state: Self.seed &+ UInt64(worker) &* 1_000_003)
                    while true {
                        let n = begun.next()
                        guard n < Self.calls / 2 else { return }
                        await call(n, services, &dice)
                        ended.next()
                    }
                }
            }
            var dice = Dice(state: Self.seed)
            let trees = (LiveTree(services.rpc.supervisor), LiveTree(services.receiver.supervisor))
            while ended.value < Self.calls / 2 {
                let (isCaller, path) = Self.paths.randomElement(using: &dice) ?? Self.paths[0]
                let ending = KillTests.Ending.allCases.randomElement(using: &dice) ?? .kill
                let tree = isCaller ? trees.0 : trees.1
                // It may be on its way up after the last one.
                _ = try? tree.end(path, by: ending.ending)
                try await tree.restarted()
                let next = ended.value + 100
                try await eventually(within: .seconds(120), "calls go on ending") {
                    ended.value >= min(next, Self.calls / 2)
                }
            }
            for worker in workers { await worker.value }
            services.gate.open()
            let rpc = services.rpc
            let sum: Int = try await rpc.call("math", "add", [4, 9], timeout: .seconds(60))
            #expect(sum == 13)
            #expect(rpc.pendingCount == 0, "seed \(Self.seed)")
            try await eventually("the receiver has nothing left") {
                let queue = try await services.broker.queue("math.rpcs", virtualHost: services.virtualHost)
                return services.receiver.inFlight == 0 && queue?.messages == 0
            }
            try await eventually("two connections with a channel each, on both sides, and no queue too many") {
                let connections = try await services.broker.connections(virtualHost: services.virtualHost)
                let queues = try await services.replyQueues().map(\.name)
                return connections.map(\.channels) == [1, 1, 1, 1] && queues == [rpc.replyQueueName].compactMap { $0 }
            }
            await rpc.stop()
            await services.receiver.stop()
            try await eventually("nothing at all") {
                let connections = try await services.broker.connections(virtualHost: services.virtualHost)
                return try await services.replyQueues().isEmpty && connections.isEmpty
            }
        }
    }

    /// One call of some kind, and what may become of it.
    private func call(_ n: Int, _ services: Services, _ dice: inout Dice) async {
        let rpc = services.rpc
        let kind = Int.random(in: 0..<10, using: &dice)
        let short = Duration.microseconds(Int64.random(in: 0..<50_000, using: &dice))
        switch kind {
        case 0..<4:
            let retry: RPCRetry = kind == 0 ? .idempotent(attempts: 100) : .never
            let result = await outcome { () throws(RPCError) in
                try await rpc.call("math", "add", [n, 1], timeout: .seconds(300), retry: retry, as: Int.self)
            }
            switch result {
            case .success(n + 1): break
            case .failure(.callerRestarted), .failure(.replyQueueLost), .failure(.connectionLost):
                if kind == 0 { Issue.record("not retried: \(result), seed \(Self.seed)") }
            // One that nobody answers and nobody ends would run into its timeout.
            case let other: Issue.record("\(other), seed \(Self.seed)")
            }
        case 4..<6:
            check(
                await outcome { () throws(RPCError) in
                    try await rpc.call("math", "add", [n, 1], timeout: short, as: Int.self)
                }
            )
        case 6..<8:
            check(
                await outcome { () throws(RPCError) in
                    try await rpc.call("math", "hold", n, timeout: short, as: Int.self)
                }
            )
        case 8:
            let task = Task {
                await outcome { () throws(RPCError) in
                    try await rpc.call("math", "hold", n, timeout: .milliseconds(200), as: Int.self)
                }
            }
            if short < .milliseconds(25) { try? await Task.sleep(for: short) }
            task.cancel()
            check(await task.value)
        default:
            check(
                await outcome { () throws(RPCError) in
                    try await rpc.cast("math", "add", [n, 1], timeout: .seconds(300))
                    return n
                }
            )
        }
    }

    private func check(_ result: Result<Int, RPCError>) {
        switch result {
        case .success, .failure(.timeout), .failure(.cancelled), .failure(.callerRestarted), .failure(.replyQueueLost),
            .failure(.connectionLost), .failure(.notConnected):
            break
        case .failure(let error): Issue.record("\(error), seed \(Self.seed)")
        }
    }
}
