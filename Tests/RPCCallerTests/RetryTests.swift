import AMQPPool
import BrokerSupport
import LocalBroker
import RPCCaller
import RPCReceiver
import Supervision
import SupervisionTesting
import Testing

@Suite("Retries and repetitions", .timeLimit(.minutes(4)))
struct RetryTests {
    static let quick = RPCRetry.idempotent(
        attempts: 50,
        backoff: Backoff(minimum: .milliseconds(20), maximum: .milliseconds(200))
    )

    typealias Held = [Task<Result<Int, RPCError>, Never>]

    /// Calls that wait in their handlers.
    func hold(_ count: Int, _ services: Services, retry: RPCRetry) async -> Held {
        let rpc = services.rpc
        let before = services.gate.arrived
        let tasks = (0..<count).map { n in
            Task {
                await outcome { () throws(RPCError) in
                    try await rpc.call("math", "hold", n, timeout: .seconds(60), retry: retry, as: Int.self)
                }
            }
        }
        await services.gate.waitForArrivals(before + count)
        return tasks
    }

    func expectAnswers(_ held: Held) async {
        for (n, task) in held.enumerated() {
            guard case .success(n) = await task.value else {
                Issue.record("\(await task.value)")
                continue
            }
        }
    }

    @Test("when every connection is lost, idempotent calls are sent again and answered", arguments: [true, false])
    func connectionsLost(_ deduplicates: Bool) async throws {
        try await withServices(receiver: { configuration in
            configuration.concurrency = 50
            if deduplicates { configuration.deduplication = RPCDeduplication() }
        }) { services in
            let held = await hold(5, services, retry: Self.quick)
            let connections = try await services.broker.connections(virtualHost: services.virtualHost)
            for connection in connections where connection.clientName.hasPrefix("test-caller") {
                try await services.broker.dropConnection(connection.name)
            }
            try await eventually("all are sent again") { services.receiver.counts.received >= 10 }
            services.gate.open()
            await expectAnswers(held)
            #expect(services.rpc.counts.retries >= 5)
            #expect(services.rpc.pendingCount == 0)
            if deduplicates {
                // The same message id: the handlers of the first attempts answered the second ones.
                #expect(services.gate.arrived == 5)
                #expect(services.receiver.counts.repeated >= 5)
            } else {
                #expect(services.gate.arrived >= 10)
            }
        }
    }

    @Test("a deleted reply queue fails what may not be sent again, and not what may")
    func queueDeleted() async throws {
        try await withServices(receiver: { $0.concurrency = 50 }) { services in
            let again = await hold(3, services, retry: Self.quick)
            let once = await hold(3, services, retry: .never)
            try await services.broker.deleteQueue(try services.replyQueueName(), virtualHost: services.virtualHost)
            for task in once {
                guard case .failure(.replyQueueLost) = await task.value else {
                    Issue.record("\(await task.value)")
                    continue
                }
            }
            services.gate.open()
            await expectAnswers(again)
        }
    }

    @Test("when the caller's tree starts anew, idempotent calls go on in the next incarnation")
    func callerRestarted() async throws {
        try await withServices(receiver: { $0.concurrency = 50 }) { services in
            let again = await hold(3, services, retry: Self.quick)
            let once = await hold(3, services, retry: .never)
            try LiveTree(services.rpc.supervisor).end("caller/pending")
            for task in once {
                guard case .failure(.callerRestarted(.killed, requestMayHaveBeenDelivered: true)) = await task.value
                else {
                    Issue.record("\(await task.value)")
                    continue
                }
            }
            services.gate.open()
            await expectAnswers(again)
        }
    }

    @Test("a service that appears in time answers a call that may be retried")
    func appears() async throws {
        try await withServices { services in
            let rpc = services.rpc
            let early = Task {
                await outcome { () throws(RPCError) in
                    try await rpc.call(
                        "late",
                        "double",
                        21,
                        timeout: .seconds(60),
                        retry: .idempotent(attempts: 1000),
                        as: Int.self
                    )
                }
            }
            try await eventually("it was returned") { rpc.counts.retries > 0 }
            let late = RPCReceiver(service: "late", endpoints: [try Endpoint(url: services.url)], logger: quiet) {
                RPCHandler("double") { (n: Int, _) in n * 2 }
            }
            try await late.start()
            guard case .success(42) = await early.value else {
                Issue.record("\(await early.value)")
                return
            }
            await late.stop()
        }
    }

    @Test("what is never delivered ends with its own error, when the attempts or the time are over")
    func ends() async throws {
        try await withServices { services in
            let attempts = await outcome { () throws(RPCError) in
                try await services.rpc.call(
                    "nobody",
                    "x",
                    1,
                    retry: .idempotent(
                        attempts: 3,
                        backoff: Backoff(minimum: .milliseconds(1), maximum: .milliseconds(2))
                    ),
                    as: Int.self
                )
            }
            guard case .failure(.unroutable("nobody")) = attempts else {
                Issue.record("\(attempts)")
                return
            }
            #expect(services.rpc.counts.retries == 2)
            let start = ContinuousClock.now
            let time = await outcome { () throws(RPCError) in
                try await services.rpc.call(
                    "nobody",
                    "x",
                    1,
                    timeout: .seconds(60),
                    retry: .idempotent(
                        attempts: 3,
                        backoff: Backoff(minimum: .seconds(90), maximum: .seconds(90), jitter: 0)
                    ),
                    as: Int.self
                )
            }
            guard case .failure(.unroutable("nobody")) = time else {
                Issue.record("\(time)")
                return
            }
            #expect(start.duration(to: .now) < .seconds(30), "it does not wait for a time that is not there")
            #expect(services.rpc.pendingCount == 0)
        }
    }

    @Test("an answer is never asked for twice: a failure of the receiver is final")
    func answered() async throws {
        try await withServices { services in
            let result = await outcome { () throws(RPCError) in
                try await services.rpc.call("math", "crash", 1, retry: Self.quick, as: Int.self)
            }
            guard case .failure(.remote) = result else {
                Issue.record("\(result)")
                return
            }
            #expect(services.receiver.counts.received == 1)
            #expect(services.rpc.counts.retries == 0)
        }
    }

    @Test("a call into a full queue that rejects is refused by the broker, and says that it was not processed")
    func rejected() async throws {
        try await withServices(receiver: { configuration in
            configuration.queueArguments = ["x-max-length": 1, "x-overflow": "reject-publish"]
            configuration.concurrency = 1
            configuration.pool.connections = 1
        }) { services in
            let rpc = services.rpc
            _ = await hold(1, services, retry: .never)
            let second = Task {
                await outcome { () throws(RPCError) in try await rpc.call("math", "hold", 2, as: Int.self) }
            }
            try await eventually("the queue is full") {
                try await services.broker.queue("math.rpcs", virtualHost: services.virtualHost)?.ready == 1
            }
            let third = await outcome { () throws(RPCError) in try await rpc.call("math", "hold", 3, as: Int.self) }
            guard case .failure(.rejectedByBroker) = third else {
                Issue.record("\(third)")
                return
            }
            services.gate.open()
            guard case .success(2) = await second.value else {
                Issue.record("\(await second.value)")
                return
            }
        }
    }

    @Test("a cast that may be sent again outlives the loss of every connection")
    func casts() async throws {
        try await withServices(receiver: { $0.concurrency = 200 }) { services in
            let rpc = services.rpc
            let casts = (0..<200).map { n in
                Task {
                    await outcome { () throws(RPCError) in
                        try await rpc.cast("math", "hold", n, timeout: .seconds(60), retry: Self.quick)
                    }
                }
            }
            let connections = try await services.broker.connections(virtualHost: services.virtualHost)
            for connection in connections where connection.clientName.hasPrefix("test-caller") {
                try await services.broker.dropConnection(connection.name)
            }
            for task in casts {
                guard case .success = await task.value else {
                    Issue.record("\(await task.value)")
                    continue
                }
            }
            try await eventually("none is lost") { services.gate.arrived >= 200 }
        }
    }
}
