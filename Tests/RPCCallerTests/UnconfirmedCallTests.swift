import AMQPPool
import BrokerSupport
import LocalBroker
import RPCCaller
import RPCReceiver
import Supervision
import SupervisionTesting
import Testing

/// `confirms: false`: what it gives, and what it gives up.
@Suite("Calls without confirms", .timeLimit(.minutes(4)))
struct UnconfirmedCallTests {
    func withoutConfirms(
        _ replies: RPCReplies = .queue,
        _ body: (Services) async throws -> Void
    ) async throws {
        try await withServices(
            caller: { configuration in
                configuration.replies = replies
                configuration.confirms = false
            },
            receiver: { $0.concurrency = 200 },
            body
        )
    }

    @Test(
        "a thousand calls at once each get their own answer, casts arrive, and nobody's service is told at once",
        arguments: [RPCReplies.queue, .direct]
    )
    func calls(_ replies: RPCReplies) async throws {
        try await withoutConfirms(replies) { services in
            let rpc = services.rpc
            try await withThrowingTaskGroup(of: (Int, Int).self) { group in
                for n in 0..<1000 {
                    group.addTask { (n, try await rpc.call("math", "add", [n, 1])) }
                }
                for try await (n, sum) in group { #expect(sum == n + 1) }
            }
            let received = services.receiver.counts.received
            try await rpc.cast("math", "add", [1])
            try await eventually("the cast arrives") { services.receiver.counts.received == received + 1 }
            let nobody = await outcome { () throws(RPCError) in
                try await rpc.call("nobody", "x", 1, timeout: .seconds(60), as: Int.self)
            }
            guard case .failure(.unroutable("nobody")) = nobody else {
                Issue.record("\(nobody)")
                return
            }
            #expect(rpc.pendingCount == 0)
            #expect(rpc.counts.unmatchedReplies == 0)
        }
    }

    @Test("a call that no queue takes is sent again as its retries have it, and told in the end")
    func unroutable() async throws {
        try await withoutConfirms { services in
            let rpc = services.rpc
            let nobody = await outcome { () throws(RPCError) in
                try await rpc.call("nobody", "x", 1, timeout: .seconds(60), retry: RetryTests.quick, as: Int.self)
            }
            guard case .failure(.unroutable("nobody")) = nobody else {
                Issue.record("\(nobody)")
                return
            }
            #expect(rpc.counts.retries > 0)
        }
    }

    @Test(
        "a channel or connection that is killed costs no call",
        arguments: KillTests.survivable,
        KillTests.Ending.allCases
    )
    func killed(_ path: String, _ ending: KillTests.Ending) async throws {
        try await withoutConfirms { services in
            let rpc = services.rpc
            let held = try await hold(20, services)
            let tree = LiveTree(rpc.supervisor)
            try tree.end(path, by: ending.ending)
            try await tree.restarted()
            services.gate.open()
            for (n, task) in held.enumerated() { #expect(try await task.value.get() == n) }
            #expect(rpc.pendingCount == 0)
        }
    }

    @Test("a lost TCP connection costs no call whose request had arrived, and the next one works")
    func connectionLost() async throws {
        try await withoutConfirms { services in
            let rpc = services.rpc
            let held = try await hold(10, services)
            let connections = try await services.broker.connections(virtualHost: services.virtualHost)
            let connection = try #require(connections.first { $0.clientName.hasPrefix("test-caller") })
            try await services.broker.dropConnection(connection.name)
            services.gate.open()
            for (n, task) in held.enumerated() { #expect(try await task.value.get() == n) }
            let sum: Int = try await rpc.call("math", "add", [4, 9])
            #expect(sum == 13)
        }
    }

    private func hold(_ count: Int, _ services: Services) async throws -> [Task<Result<Int, RPCError>, Never>] {
        let rpc = services.rpc
        let tasks = (0..<count).map { n in
            Task {
                await outcome { () throws(RPCError) in
                    try await rpc.call("math", "hold", n, timeout: .seconds(60), as: Int.self)
                }
            }
        }
        await services.gate.waitForArrivals(count)
        return tasks
    }
}
