import AMQPPool
import BrokerSupport
import LocalBroker
import NIOCore
import RPCCaller
import RPCReceiver
import Testing

@Suite("Routing", .timeLimit(.minutes(4)))
struct RoutingTests {
    /// Runs a receiver of "math" with these settings beside a caller of its own virtual host.
    func with(
        service: String = "math",
        _ change: (inout RPCReceiverConfiguration) -> Void,
        _ body: (RPCCaller, RPCReceiver, LocalBroker, _ virtualHost: String) async throws -> Void
    ) async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let endpoint = try Endpoint(url: url)
            var configuration = RPCReceiverConfiguration(endpoints: [endpoint])
            change(&configuration)
            let gate = Gate()
            gate.open()
            let receiver = RPCReceiver(
                service: service,
                configuration: configuration,
                logger: quiet,
                procedures: procedures(gate)
            )
            let rpc = RPCCaller(service: "test", endpoints: [endpoint], logger: quiet)
            do {
                try await receiver.start()
                try await rpc.start()
                try await receiver.waitUntilReady(timeout: .seconds(90))
                try await body(rpc, receiver, broker, virtualHost)
            } catch {
                await rpc.stop()
                await receiver.stop()
                throw error
            }
            await rpc.stop()
            await receiver.stop()
        }
    }

    func add(_ rpc: RPCCaller, _ service: String, _ procedure: String = "add") async -> Result<Int, RPCError> {
        await outcome { () throws(RPCError) in
            try await rpc.call(service, procedure, [4, 9], timeout: .seconds(60), as: Int.self)
        }
    }

    func expectUnroutable(_ result: Result<Int, RPCError>, _ location: SourceLocation = #_sourceLocation) {
        guard case .failure(.unroutable) = result else {
            Issue.record("\(result)", sourceLocation: location)
            return
        }
    }

    func expectAnswer(_ result: Result<Int, RPCError>, _ location: SourceLocation = #_sourceLocation) {
        guard case .success(13) = result else {
            Issue.record("\(result)", sourceLocation: location)
            return
        }
    }

    @Test("a service may answer to several names")
    func names() async throws {
        try await with {
            $0.bindings = [.service, .destination("arithmetic")]
        } _: { rpc, _, _, _ in
            expectAnswer(await add(rpc, "math"))
            expectAnswer(await add(rpc, "arithmetic"))
            expectUnroutable(await add(rpc, "algebra"))
        }
    }

    @Test("a receiver bound on a procedure gets no others: they are unroutable, at once")
    func procedure() async throws {
        try await with {
            $0.bindings = [.procedure("add"), .procedure("echo", of: "other")]
        } _: { rpc, _, _, _ in
            expectAnswer(await add(rpc, "math"))
            expectUnroutable(await add(rpc, "math", "echo"))
            let echo: Int = try await rpc.call("other", "echo", 5)
            #expect(echo == 5)
        }
    }

    @Test("a receiver bound on its procedures gets each of them by its name")
    func procedures_() async throws {
        try await with {
            $0.bindings = [.procedures]
        } _: { rpc, receiver, broker, virtualHost in
            expectAnswer(await add(rpc, "math"))
            expectUnroutable(await add(rpc, "math", "unknown"))
            let bindings = try await broker.bindings(virtualHost: virtualHost)
            #expect(bindings.filter { $0.source == "rpc" }.count == receiver.procedures.names.count)
        }
    }

    @Test("a receiver bound on headers gets what has them, whatever its destination")
    func headers() async throws {
        try await with {
            $0.bindings = [.headers(.all(["region": "eu"]))]
        } _: { rpc, receiver, _, _ in
            expectUnroutable(await add(rpc, "math"))
            #expect(receiver.counts.received == 0)
        }
        try await with {
            $0.bindings = [.headers(.any(["destination": "a", "procedure": "add"]))]
        } _: { rpc, _, _, _ in
            expectAnswer(await add(rpc, "whatever"))
            expectUnroutable(await add(rpc, "whatever", "echo"))
        }
    }

    @Test("a binding that would take every message, or none, does not start")
    func invalid() async throws {
        for binding in [RPCBinding.headers(.all([:])), .destination(""), .headers(.all(["x-match": "any"]))] {
            var configuration = RPCReceiverConfiguration(endpoints: ["amqp://127.0.0.1"])
            configuration.bindings = [binding]
            let receiver = RPCReceiver(
                service: "math",
                configuration: configuration,
                logger: quiet,
                procedures: procedures(Gate())
            )
            await #expect(throws: (any Error).self) { try await receiver.start() }
        }
    }

    @Test("without bindings the plain queue is answered, through the default exchange")
    func plainQueue() async throws {
        try await with {
            $0.bindings = []
            $0.queue = "rpc_queue"
        } _: { rpc, _, broker, virtualHost in
            let sum: Int = try await rpc.callQueue("rpc_queue", "add", [4, 9])
            #expect(sum == 13)
            let negated: Int = try await rpc.callQueue("rpc_queue", nil, 5)
            #expect(negated == -5, "the default procedure")
            let declared = try await rpc.callQueue("rpc_queue", RPCProcedure<Int, Int>(nil), 6)
            #expect(declared == -6)
            let nobody = await outcome { () throws(RPCError) in
                try await rpc.callQueue("no_queue", nil, 5, as: Int.self)
            }
            guard case .failure(.unroutable("no_queue")) = nobody else {
                Issue.record("\(nobody)")
                return
            }
            let bindings = try await broker.bindings(virtualHost: virtualHost)
            #expect(!bindings.contains { $0.source == "rpc" })
        }
    }

    @Test(
        "a queue that somebody declared as not durable can be served",
        .enabled("the broker does not permit transient queues") { try await TestBroker.permitsTransientQueues() }
    )
    func transientQueue() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            try await broker.declareQueue("rpc_queue", durable: false, virtualHost: virtualHost)
            let endpoint = try Endpoint(url: url)
            var configuration = RPCReceiverConfiguration(endpoints: [endpoint])
            configuration.bindings = []
            configuration.queue = "rpc_queue"
            configuration.queueIsDurable = false
            let receiver = RPCReceiver(
                service: "math",
                configuration: configuration,
                logger: quiet,
                procedures: procedures(Gate())
            )
            try await receiver.start()
            try await receiver.waitUntilReady(timeout: .seconds(90))
            await receiver.stop()
        }
    }

    @Test("several receivers share one queue and its load")
    func shared() async throws {
        try await withServices(receiver: { $0.concurrency = 4 }) { services in
            let second = RPCReceiver(
                service: "math",
                configuration: {
                    var configuration = services.receiverConfiguration
                    configuration.concurrency = 4
                    return configuration
                }(),
                logger: quiet,
                procedures: procedures(services.gate)
            )
            try await second.start()
            try await second.waitUntilReady(timeout: .seconds(90))
            try await eventually("all consume") {
                try await services.broker.queue("math.rpcs", virtualHost: services.virtualHost)?.consumers == 4
            }
            let rpc = services.rpc
            let held = (0..<8).map { n in
                Task { await outcome { () throws(RPCError) in try await rpc.call("math", "hold", n, as: Int.self) } }
            }
            await services.gate.waitForArrivals(8)
            #expect(services.receiver.inFlight == 4)
            #expect(second.inFlight == 4)
            services.gate.open()
            for (n, task) in held.enumerated() {
                guard case .success(n) = await task.value else {
                    Issue.record("\(await task.value)")
                    continue
                }
            }
            await second.stop()
        }
    }
}
