import AMQPPool
import BrokerSupport
import LocalBroker
import Logging
import RPCCaller
import RPCReceiver
import ServiceLifecycle
import Supervision
import SupervisionTesting
import Synchronization
import Testing

/// What happens to the receiver, seen by those who call it (design parts 5 and 7).
@Suite("The receiver's life", .timeLimit(.minutes(4)))
struct ReceiverLifeTests {
    func hold(_ count: Int, _ procedure: String, _ services: Services) async -> [Task<
        Result<JSONValue, RPCError>, Never
    >] {
        let rpc = services.rpc
        let before = services.gate.arrived
        let tasks = (0..<count).map { n in
            Task {
                await outcome { () throws(RPCError) in try await rpc.call("math", procedure, n, as: JSONValue.self) }
            }
        }
        await services.gate.waitForArrivals(before + count)
        return tasks
    }

    func queue(_ services: Services) async throws -> QueueInfo {
        try #require(try await services.broker.queue("math.rpcs", virtualHost: services.virtualHost))
    }

    /// Each channel of a receiver that has just started consumes its share.
    func consumersAreUp(_ services: Services) async throws {
        try await eventually("both channels consume") { try await queue(services).consumers == 2 }
    }

    @Test(
        "whichever process of the receiver is killed, what it had not answered is redelivered and answered",
        arguments: [
            "receiver/pool/connection-supervisor-1/channel-supervisor/channel-1",
            "receiver/pool/connection-supervisor-1/connection",
            "receiver/pool/connection-supervisor-2/channel-supervisor",
            "receiver/pool/connection-supervisor-2",
            "receiver/pool", "receiver/handlers", "receiver/registry",
        ]
    )
    func killed(_ path: String) async throws {
        try await withServices { services in
            try await consumersAreUp(services)
            let held = await hold(10, "redelivered", services)
            let tree = LiveTree(services.receiver.supervisor)
            _ = try await tree.end(path).exited()
            try await tree.restarted()
            services.gate.open()
            var redelivered = 0
            for task in held {
                switch await task.value {
                case .success(.bool(let again)): redelivered += again ? 1 : 0
                case let other: Issue.record("\(other)")
                }
            }
            let isPart = path.contains("connection-supervisor")
            #expect(redelivered == (isPart ? 5 : 10))
            try await eventually("nothing is left in the queue, and both channels consume it") {
                let queue = try await queue(services)
                return queue.messages == 0 && queue.consumers == 2
            }
            #expect(services.receiver.inFlight == 0)
            #expect(services.rpc.counts.unmatchedReplies == 0)
        }
    }

    @Test("stopping takes nothing new on, answers what is in flight, and leaves the rest in the queue")
    func gracefulStop() async throws {
        try await withServices { services in
            try await consumersAreUp(services)
            let held = await hold(4, "hold", services)
            let receiver = services.receiver
            let stopping = Task { await receiver.stop() }
            try await eventually("no channel consumes any more") { try await queue(services).consumers == 0 }
            let rpc = services.rpc
            let later = Task {
                await outcome { () throws(RPCError) in try await rpc.call("math", "add", [4, 9], as: Int.self) }
            }
            try await eventually("the later call waits in the queue") { try await queue(services).ready == 1 }
            #expect(receiver.inFlight == 4)
            services.gate.open()
            for task in held {
                guard case .success = await task.value else {
                    Issue.record("\(await task.value)")
                    continue
                }
            }
            await stopping.value
            #expect(try await queue(services).messages == 1)
            #expect(try await services.broker.connections(virtualHost: services.virtualHost).count == 2)
            try await receiver.start()
            guard case .success(13) = await later.value else {
                Issue.record("\(await later.value)")
                return
            }
            #expect(receiver.counts.redelivered == 0)
        }
    }

    @Test("a ServiceGroup's graceful shutdown stops it in the same way")
    func serviceGroup() async throws {
        try await withServices { services in
            await services.receiver.stop()
            let receiver = RPCReceiver(
                service: "math",
                configuration: RPCReceiverConfiguration(endpoints: [try Endpoint(url: services.url)]),
                logger: quiet,
                procedures: procedures(services.gate)
            )
            let group = ServiceGroup(services: [receiver], logger: quiet)
            let running = Task { try await group.run() }
            try await receiver.waitUntilReady(timeout: .seconds(90))
            let held = await hold(1, "hold", services)
            await group.triggerGracefulShutdown()
            try await eventually("no channel consumes any more") { try await queue(services).consumers == 0 }
            services.gate.open()
            for task in held {
                guard case .success = await task.value else {
                    Issue.record("\(await task.value)")
                    continue
                }
            }
            try await running.value
        }
    }

    @Test("a request that is not answered within the drain timeout is redelivered")
    func drainTimeout() async throws {
        try await withServices(receiver: { $0.drainTimeout = .milliseconds(200) }) { services in
            try await consumersAreUp(services)
            let held = await hold(2, "redelivered", services)
            await services.receiver.stop()
            try await eventually("both are back in the queue") { try await queue(services).ready == 2 }
            services.gate.open()
            try await services.receiver.start()
            for task in held {
                guard case .success(true) = await task.value else {
                    Issue.record("\(await task.value)")
                    continue
                }
            }
        }
    }

    @Test(
        "a request that comes again when its caller has given up is not run: its first receiver held it for too long, and ended",
        arguments: ["classic", "quorum"]
    )
    func redeliveredTooLate(_ type: String) async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let endpoint = try Endpoint(url: url)
            let ran = Mutex<[Int]>([])
            var configuration = RPCReceiverConfiguration(endpoints: [endpoint])
            configuration.queueArguments = ["x-queue-type": .string(type)]
            let receiver = RPCReceiver(
                service: "late",
                configuration: configuration,
                procedures: RPCHandlers {
                    RPCHandler("run") { (number: Int, _) in
                        ran.withLock { $0.append(number) }
                        return number
                    }
                }
            )
            // It declares its queue, and goes.
            try await receiver.start()
            try await receiver.waitUntilReady(timeout: .seconds(60))
            await receiver.stop()
            let rpc = RPCCaller(service: "caller", endpoints: [endpoint])
            try await rpc.start()
            try await rpc.waitUntilReady(timeout: .seconds(60))
            let other = try await AMQPConnection.open(endpoint)
            let channel = try await other.openChannel()
            let call = Task {
                await outcome { () throws(RPCError) in
                    try await rpc.call("late", "run", 1, timeout: .milliseconds(700), as: Int.self)
                }
            }
            try await eventually("the other one has the request") { try await channel.get(queue: "late.rpcs") != nil }
            guard case .failure(.timeout(requestMayHaveBeenDelivered: true)) = await call.value else {
                Issue.record("\(await call.value)")
                return
            }
            // The broker's clock began a little later.
            try await Task.sleep(for: .milliseconds(200))
            await other.close()
            try await receiver.start()
            #expect(try await rpc.call("late", "run", 2, timeout: .seconds(60), as: Int.self) == 2)
            #expect(ran.withLock { $0 } == [2])
            await rpc.stop()
            await receiver.stop()
        }
    }

    @Test("no more requests are handed over than may run at once")
    func concurrency() async throws {
        try await withServices(receiver: { $0.concurrency = 3 }) { services in
            try await consumersAreUp(services)
            let rpc = services.rpc
            let held = (0..<10).map { n in
                Task { await outcome { () throws(RPCError) in try await rpc.call("math", "hold", n, as: Int.self) } }
            }
            await services.gate.waitForArrivals(3)
            try await eventually("the others wait in the queue") {
                let queue = try await queue(services)
                return queue.unacknowledged == 3 && queue.ready == 7
            }
            #expect(services.gate.arrived == 3)
            services.gate.open()
            for (n, task) in held.enumerated() {
                guard case .success(n) = await task.value else {
                    Issue.record("\(await task.value)")
                    continue
                }
            }
        }
    }

    @Test("a handler over the receiver's limit gets its caller an error, and frees its place")
    func handlerTimeLimit() async throws {
        try await withServices(receiver: {
            $0.concurrency = 1
            $0.handlerTimeLimit = .milliseconds(200)
        }) { services in
            for _ in 0..<3 {
                let result = await outcome { () throws(RPCError) in
                    try await services.rpc.call("math", "hold", 1, as: Int.self)
                }
                guard case .failure(.remote(let failure)) = result, failure.code == .handlerTimeout else {
                    Issue.record("\(result)")
                    return
                }
            }
        }
    }

    @Test("a deleted queue is declared and consumed again")
    func queueDeleted() async throws {
        try await withServices { services in
            try await consumersAreUp(services)
            try await services.broker.deleteQueue("math.rpcs", virtualHost: services.virtualHost)
            try await eventually("it is there again") {
                try await services.broker.queue("math.rpcs", virtualHost: services.virtualHost)?.consumers == 2
            }
            let sum: Int = try await services.rpc.call("math", "add", [4, 9])
            #expect(sum == 13)
            #expect(services.receiver.tree().nodes.allSatisfy { $0.restarts == 0 }, "no process had to die for it")
        }
    }

    @Test("a queue that somebody declared in another way stops the receiver, with its name and the broker's words")
    func topologyRefused() async throws {
        try await withServices { services in
            let endpoint = try Endpoint(url: services.url)
            let connection = try await AMQPConnection.open(endpoint, logger: quiet)
            let channel = try await connection.openChannel()
            try await channel.declareQueue("other.rpcs", durable: true, arguments: ["x-max-length": 5])
            let receiver = RPCReceiver(service: "other", endpoints: [endpoint], logger: quiet) {
                RPCHandler("add") { (args: [Int], _) in args.reduce(0, +) }
            }
            await #expect {
                try await receiver.run()
            } throws: { error in
                guard let refusal = error as? RPCTopologyError else { return false }
                return refusal.code == 406 && refusal.subject == "queue \"other.rpcs\""
                    && refusal.text.contains("x-max-length")
            }
            await connection.close()
        }
    }

    @Test("without the right to declare, what is there is used")
    func declaresNothing() async throws {
        try await withServices(receiver: { $0.queueArguments = ["x-max-length": 1000] }) { services in
            var configuration = RPCReceiverConfiguration(endpoints: [try Endpoint(url: services.url)])
            configuration.names.declares = false
            let second = RPCReceiver(
                service: "math",
                configuration: configuration,
                logger: quiet,
                procedures: RPCHandlers { RPCHandler("add") { (args: [Int], _) in args.reduce(0, +) } }
            )
            try await second.start()
            try await second.waitUntilReady(timeout: .seconds(90))
            try await eventually("two receivers share the queue") { try await queue(services).consumers >= 3 }
            for _ in 0..<10 {
                let sum: Int = try await services.rpc.call("math", "add", [4, 9])
                #expect(sum == 13)
            }
            #expect(second.counts.answered > 0)
            await second.stop()
        }
    }

    @Test("a procedure that stands twice does not start")
    func duplicate() async throws {
        let receiver = RPCReceiver(service: "math", endpoints: ["amqp://127.0.0.1"], logger: quiet) {
            RPCHandler("a") { (n: Int, _) in n }
            RPCHandler("a") { (n: Int, _) in n }
        }
        await #expect(throws: SupervisionError.self) { try await receiver.start() }
    }
}
