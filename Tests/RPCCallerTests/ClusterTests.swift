import AMQPPool
import BrokerSupport
import LocalBroker
import RPCCaller
import RPCReceiver
import Supervision
import Testing

@Suite("A cluster under load", .timeLimit(.minutes(15)))
struct ClusterTests {
    @Test(
        "when the node that holds the reply queue is killed under load, calls end with the truth, and idempotent ones with their results"
    )
    func nodeKilled() async throws {
        try await TestBroker.withCluster { try await nodeKilled($0) }
    }

    private func nodeKilled(_ cluster: LocalBrokerCluster) async throws {
        let endpoints = try cluster.urls().map { try Endpoint(url: $0) }
        let backoff = Backoff(minimum: .milliseconds(10), maximum: .milliseconds(500), jitter: 1)
        var receiverConfiguration = RPCReceiverConfiguration(endpoints: endpoints)
        receiverConfiguration.pool.backoff = backoff
        receiverConfiguration.concurrency = 20
        receiverConfiguration.queueArguments = ["x-queue-type": "quorum"]
        let receiver = RPCReceiver(
            service: "math",
            configuration: receiverConfiguration,
            logger: quiet,
            procedures: procedures(Gate())
        )
        var callerConfiguration = RPCCallerConfiguration(endpoints: endpoints)
        callerConfiguration.pool.backoff = backoff
        let rpc = RPCCaller(service: "test", configuration: callerConfiguration, logger: quiet)
        try await receiver.start()
        try await rpc.start()
        try await receiver.waitUntilReady(timeout: .seconds(60))
        try await rpc.waitUntilReady(timeout: .seconds(60))
        let over = Counter()
        let answered = Counter()
        let callers = (0..<20).map { caller in
            Task {
                var calls = 0
                while over.value == 0 {
                    calls += 1
                    let isIdempotent = caller % 2 == 0
                    let n = calls
                    let start = ContinuousClock.now
                    let result = await outcome { () throws(RPCError) in
                        try await rpc.call(
                            "math",
                            "add",
                            [n, 1],
                            timeout: .seconds(240),
                            // The broker may refuse for a minute what is for a queue that is electing its leader.
                            retry: isIdempotent ? .idempotent(attempts: 10_000) : .never,
                            as: Int.self
                        )
                    }
                    switch result {
                    case .success(n + 1): answered.next()
                    case .failure(.replyQueueLost) where !isIdempotent: break
                    case .failure(.connectionLost(requestMayHaveBeenDelivered: true)) where !isIdempotent: break
                    // The queue's next leader is not elected yet.
                    case .failure(.rejectedByBroker) where !isIdempotent, .failure(.unroutable) where !isIdempotent:
                        break
                    case let other: Issue.record("\(isIdempotent) \(start.duration(to: .now)): \(other) \(rpc.counts)")
                    }
                }
            }
        }
        try await eventually("calls are answered") { answered.value > 100 }
        let queue = try #require(rpc.replyQueueName)
        let place = try #require(try await cluster.place(of: queue))
        let node = try #require(place.leader)
        try await cluster.nodes[node].kill()
        try await eventually(within: .seconds(60), "there is a new reply queue") { rpc.replyQueueName != queue }
        let before = answered.value
        try await eventually(within: .seconds(200), "calls are answered again") {
            answered.value > before + 500
        }
        over.next()
        for task in callers { await task.value }
        #expect(rpc.pendingCount == 0)
        #expect(rpc.tree().nodes.allSatisfy { $0.pid != nil })
        await rpc.stop()
        await receiver.stop()
    }

    @Test(
        "while the leader of a quorum queue of requests moves, every idempotent call is answered, and no process has to end"
    )
    func movingLeader() async throws {
        try await TestBroker.withCluster { try await movingLeader($0) }
    }

    private func movingLeader(_ cluster: LocalBrokerCluster) async throws {
        let endpoints = try cluster.urls().map { try Endpoint(url: $0) }
        var receiverConfiguration = RPCReceiverConfiguration(endpoints: endpoints)
        receiverConfiguration.queueArguments = ["x-queue-type": "quorum"]
        let receiver = RPCReceiver(
            service: "math",
            configuration: receiverConfiguration,
            logger: quiet,
            procedures: procedures(Gate())
        )
        let rpc = RPCCaller(service: "test", endpoints: endpoints, logger: quiet)
        try await receiver.start()
        try await rpc.start()
        try await receiver.waitUntilReady(timeout: .seconds(60))
        try await rpc.waitUntilReady(timeout: .seconds(60))
        let (over, answered) = (Counter(), Counter())
        let callers = (0..<10).map { caller in
            Task {
                var number = caller
                while over.value == 0 {
                    number += 10
                    let result = await outcome { () throws(RPCError) in
                        try await rpc.call(
                            "math",
                            "add",
                            [number, 1],
                            timeout: .seconds(240),
                            // A queue that elects its leader refuses messages.
                            retry: .idempotent(attempts: 10_000),
                            as: Int.self
                        )
                    }
                    guard case .success(number + 1) = result else {
                        Issue.record("\(result)")
                        return
                    }
                    answered.next()
                }
            }
        }
        for round in 0..<6 {
            let next = round % cluster.nodes.count
            let before = answered.value
            try await eventually(within: .seconds(60), "node \(next) leads") {
                try? await cluster.moveLeader(of: "math.rpcs", to: next)
                return try await cluster.place(of: "math.rpcs")?.leader == next
            }
            try await eventually(within: .seconds(120), "calls are answered") { answered.value > before + 20 }
        }
        over.next()
        for task in callers { await task.value }
        #expect(rpc.tree().nodes.allSatisfy { $0.restarts == 0 })
        #expect(receiver.tree().nodes.allSatisfy { $0.restarts == 0 })
        await rpc.stop()
        await receiver.stop()
    }
}
