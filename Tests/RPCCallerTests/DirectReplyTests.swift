import AMQPPool
import BrokerSupport
import LocalBroker
import RPCCaller
import RPCReceiver
import Supervision
import SupervisionTesting
import Testing

/// `replies: .direct`: what it gives, and what it gives up.
@Suite("Direct replies", .timeLimit(.minutes(4)))
struct DirectReplyTests {
    func withDirect(
        channels: Int = 1,
        _ body: (Services) async throws -> Void
    ) async throws {
        try await withServices(
            caller: { configuration in
                configuration.replies = .direct
                configuration.pool.channelsPerConnection = channels
            },
            receiver: { $0.concurrency = 200 },
            body
        )
    }

    func hold(_ count: Int, _ services: Services) async -> [Task<Result<Int, RPCError>, Never>] {
        let rpc = services.rpc
        let before = services.gate.arrived
        let tasks = (0..<count).map { n in
            Task { await outcome { () throws(RPCError) in try await rpc.call("math", "hold", n, as: Int.self) } }
        }
        await services.gate.waitForArrivals(before + count)
        return tasks
    }

    @Test("a thousand calls at once each get their own answer, and no queue is declared for them")
    func calls() async throws {
        try await withDirect { services in
            let rpc = services.rpc
            try await withThrowingTaskGroup(of: (Int, Int).self) { group in
                for n in 0..<1000 {
                    group.addTask { (n, try await rpc.call("math", "add", [n, 1])) }
                }
                for try await (n, sum) in group { #expect(sum == n + 1) }
            }
            #expect(rpc.pendingCount == 0)
            #expect(rpc.counts.unmatchedReplies == 0)
            #expect(rpc.replyQueueName == nil)
            #expect(try await services.replyQueues().isEmpty)
            try await rpc.cast("math", "add", [1])
            let nobody = await outcome { () throws(RPCError) in try await rpc.call("nobody", "x", 1, as: Int.self) }
            guard case .failure(.unroutable) = nobody else {
                Issue.record("\(nobody)")
                return
            }
        }
    }

    @Test(
        "a channel that ends takes its replies with it: its calls fail at once, those of the others are answered",
        arguments: KillTests.survivable,
        KillTests.Ending.allCases
    )
    func killed(_ path: String, _ ending: KillTests.Ending) async throws {
        try await withDirect { services in
            let rpc = services.rpc
            let held = await hold(20, services)
            let start = ContinuousClock.now
            try LiveTree(rpc.supervisor).end(path, by: ending.ending)
            var lost = 0
            try await eventually("those of the channel have failed") { rpc.pendingCount == 10 }
            #expect(start.duration(to: .now) < .seconds(20))
            services.gate.open()
            for (n, task) in held.enumerated() {
                switch await task.value {
                case .success(n): break
                case .failure(.replyQueueLost): lost += 1
                case let other: Issue.record("\(other)")
                }
            }
            #expect(lost == 10, "the channels take turns")
            let sum: Int = try await rpc.call("math", "add", [4, 9])
            #expect(sum == 13)
            #expect(rpc.pendingCount == 0)
        }
    }

    @Test("an idempotent call whose channel ends is answered through another")
    func retried() async throws {
        try await withDirect { services in
            let rpc = services.rpc
            let held = (0..<10).map { n in
                Task {
                    await outcome { () throws(RPCError) in
                        try await rpc.call(
                            "math",
                            "hold",
                            n,
                            timeout: .seconds(60),
                            retry: RetryTests.quick,
                            as: Int.self
                        )
                    }
                }
            }
            await services.gate.waitForArrivals(10)
            try LiveTree(rpc.supervisor).end(KillTests.survivable[0])
            await services.gate.waitForArrivals(15)
            services.gate.open()
            for (n, task) in held.enumerated() {
                guard case .success(n) = await task.value else {
                    Issue.record("\(await task.value)")
                    continue
                }
            }
        }
    }

    @Test("a lost TCP connection takes the calls sent through it, and no others; the next call works")
    func connectionLost() async throws {
        try await withDirect { services in
            let rpc = services.rpc
            let held = await hold(10, services)
            let connections = try await services.broker.connections(virtualHost: services.virtualHost)
            let connection = try #require(connections.first { $0.clientName.hasPrefix("test-caller") })
            try await services.broker.dropConnection(connection.name)
            try await eventually("those of the connection have failed") { rpc.pendingCount == 5 }
            services.gate.open()
            for task in held {
                switch await task.value {
                case .success, .failure(.replyQueueLost), .failure(.connectionLost(true)): break
                case let other: Issue.record("\(other)")
                }
            }
            let sum: Int = try await rpc.call("math", "add", [4, 9])
            #expect(sum == 13)
        }
    }
}
