import AMQPPool
import BrokerSupport
import Foundation
import LocalBroker
import NIOCore
import RPCCaller
import RPCReceiver
import Supervision
import SupervisionTesting
import Testing

/// One pool for a process: a caller, a receiver and publishers on the same two connections.
@Suite("A caller and a receiver on one pool", .timeLimit(.minutes(4)))
struct SharedPoolTests {
    private struct Process: Sendable {
        let pool: AMQPPool
        let receiver: RPCReceiver
        let rpc: RPCCaller
        let root: Supervisor
        let gate: Gate
        let broker: LocalBroker
        let virtualHost: String

        /// Waits until the broker has two connections with a channel for each of the three parts, and both queues are consumed by two.
        func isWhole() async throws {
            try await eventually("all is there") {
                let connections = try await broker.connections(virtualHost: virtualHost).count
                let channels = try await broker.channels(virtualHost: virtualHost).count
                let queues = try await broker.queues(virtualHost: virtualHost).map(\.consumers)
                return (connections, channels, queues) == (2, 6, [2, 2])
            }
        }

        func replyQueues() async throws -> [String] {
            try await broker.queues(virtualHost: virtualHost).map(\.name).filter { $0.contains(".replies.") }
        }
    }

    private func withProcess(_ body: (Process) async throws -> Void) async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let gate = Gate()
            var settings = PoolConfiguration(endpoints: [try Endpoint(url: url)])
            settings.backoff = Backoff(minimum: .milliseconds(10), maximum: .milliseconds(500), jitter: 1)
            let pool = AMQPPool(configuration: settings, logger: quiet)
            var receiving = RPCReceiverConfiguration()
            receiving.pool.backoff = settings.backoff
            receiving.concurrency = 100
            let receiver = RPCReceiver(
                service: "math",
                on: pool,
                configuration: receiving,
                logger: quiet,
                procedures: procedures(gate)
            )
            var calling = RPCCallerConfiguration()
            calling.pool.backoff = settings.backoff
            calling.timeout = .seconds(30)
            let rpc = RPCCaller(service: "test", on: pool, configuration: calling, logger: quiet)
            let root = Supervisor("service", strategy: .restForOne, logger: quiet) {
                pool.supervisor
                receiver.supervisor
                rpc.supervisor
            }
            let process = Process(
                pool: pool,
                receiver: receiver,
                rpc: rpc,
                root: root,
                gate: gate,
                broker: broker,
                virtualHost: virtualHost
            )
            do {
                try await root.start()
                try await receiver.waitUntilReady(timeout: .seconds(90))
                try await rpc.waitUntilReady(timeout: .seconds(90))
                try await process.isWhole()
                try await body(process)
            } catch {
                gate.open()
                await root.stop()
                throw error
            }
            gate.open()
            await root.stop()
        }
    }

    private func waiting(_ count: Int, _ process: Process) async -> [Task<Result<Int, RPCError>, Never>] {
        let rpc = process.rpc
        let tasks = (0..<count).map { n in
            Task { await outcome { () throws(RPCError) in try await rpc.call("math", "hold", n, as: Int.self) } }
        }
        await process.gate.waitForArrivals(count)
        return tasks
    }

    @Test("call, answer and publish on two connections, and leave nothing when the tree stops")
    func twoConnections() async throws {
        try await withProcess { process in
            let sum = try await process.rpc.call("math", "add", [4, 9], as: Int.self)
            #expect(sum == 13)
            try await process.pool.publish(ByteBuffer(string: "[4, 9]"), routingKey: "math.rpcs", mandatory: true)
            try await process.isWhole()
            await process.root.stop()
            try await eventually("nothing is left") {
                try await process.broker.connections(virtualHost: process.virtualHost).isEmpty
            }
            #expect(try await process.replyQueues().isEmpty)
        }
    }

    @Test(
        "a store that crashes takes the caller's channels and its reply queue with it, and nothing of the pool",
        arguments: ["service/caller/pending", "service/caller/registry", "service/caller/pool"]
    )
    func store(_ path: String) async throws {
        try await withProcess { process in
            let connections = process.pool.connections.map { ObjectIdentifier($0) }
            let queue = try #require(process.rpc.replyQueueName)
            let held = await waiting(20, process)
            let tree = LiveTree(process.root)
            _ = await (try tree.end(path, by: .crash())).exited()
            for task in held {
                guard case .failure(.callerRestarted) = await task.value else {
                    Issue.record("\(await task.value)")
                    continue
                }
            }
            try await tree.settled()
            try await process.rpc.waitUntilReady(timeout: .seconds(90))
            try await process.isWhole()
            #expect(process.rpc.replyQueueName != queue)
            #expect(try await process.replyQueues() == [try #require(process.rpc.replyQueueName)])
            #expect(Set(process.pool.connections.map { ObjectIdentifier($0) }) == Set(connections))
        }
    }

    @Test("a connection of the pool that is killed takes no waiting call with it")
    func connection() async throws {
        try await withProcess { process in
            let held = await waiting(20, process)
            let tree = LiveTree(process.root)
            let path = "service/amqp-pool/pool/connection-supervisor-1/connection"
            _ = await (try tree.end(path, by: .kill)).exited()
            process.gate.open()
            for (n, task) in held.enumerated() {
                guard case .success(n) = await task.value else {
                    Issue.record("\(n): \(await task.value)")
                    continue
                }
            }
            try await process.isWhole()
        }
    }

    @Test("a leased connection that is killed in the caller's tree leaves the pool's connection open")
    func lease() async throws {
        try await withProcess { process in
            let connections = process.pool.connections.map { ObjectIdentifier($0) }
            let held = await waiting(20, process)
            let tree = LiveTree(process.root)
            let path = "service/caller/pool/connection-supervisor-1/connection"
            _ = await (try tree.end(path, by: .kill)).exited()
            process.gate.open()
            for (n, task) in held.enumerated() {
                guard case .success(n) = await task.value else {
                    Issue.record("\(n): \(await task.value)")
                    continue
                }
            }
            try await process.isWhole()
            #expect(Set(process.pool.connections.map { ObjectIdentifier($0) }) == Set(connections))
        }
    }

    /// With `MEASURE_SHARED_POOL` in the environment it plays longer and prints how long calls take, without and with the publishers.
    @Test("publishers that always have more to write than the sockets take leave calls and replies their turn")
    func bulk() async throws {
        try await withProcess { process in
            let isMeasured = ProcessInfo.processInfo.environment["MEASURE_SHARED_POOL"] != nil
            let count = isMeasured ? 1000 : 50
            let rpc = process.rpc
            func calls() async throws -> [Duration] {
                var durations: [Duration] = []
                for n in 0..<count {
                    let start = ContinuousClock.now
                    #expect(try await rpc.call("math", "add", [n, 1], as: Int.self) == n + 1)
                    durations.append(start.duration(to: .now))
                }
                return durations.sorted()
            }
            let alone = try await calls()
            let pool = process.pool
            try await pool.withChannel { channel in
                // The newest are kept: what is published has to cost the broker no memory.
                _ = try await channel.declareQueue("bulk", autoDelete: false, arguments: ["x-max-length": 10])
            }
            let published = Counter()
            let publishers = (0..<32).map { _ in
                Task {
                    let body = ByteBuffer(repeating: 0, count: 256 << 10)
                    while !Task.isCancelled {
                        try await pool.publish(body, routingKey: "bulk")
                        published.next()
                    }
                }
            }
            try await eventually("they publish") { published.value > 100 }
            let start = ContinuousClock.now
            let before = published.value
            let beside = try await calls()
            let rate = Double(published.value - before) / (start.duration(to: .now) / .seconds(1)) / 4
            for publisher in publishers { publisher.cancel() }
            for publisher in publishers { _ = await publisher.result }
            if isMeasured {
                print(
                    "alone: median \(alone[count / 2]), 99% \(alone[count * 99 / 100]), longest \(alone[count - 1]); beside \(Int(rate)) MiB/s: "
                        + "median \(beside[count / 2]), 99% \(beside[count * 99 / 100]), longest \(beside[count - 1])"
                )
            }
            try await pool.withChannel { channel in _ = try await channel.deleteQueue("bulk") }
        }
    }

    @Test("a call says why the pool has no connection, and that the pool does not run")
    func reasons() async throws {
        let closed = try ClosedPort()
        let port = closed.number
        let pool = AMQPPool(endpoints: [try Endpoint(url: "amqp://guest:secret@127.0.0.1:\(port)")], logger: quiet)
        let rpc = RPCCaller(service: "test", on: pool, logger: quiet)
        try await rpc.start()
        let early = await outcome { () throws(RPCError) in
            try await rpc.call("math", "add", [1], timeout: .milliseconds(50), as: Int.self)
        }
        guard case .failure(.notConnected(let why)) = early, why.contains("not running") else {
            Issue.record("\(early)")
            return
        }
        try await pool.start()
        try await eventually("the call says that the connection is refused") {
            let refused = await outcome { () throws(RPCError) in
                try await rpc.call("math", "add", [1], timeout: .milliseconds(100), as: Int.self)
            }
            guard case .failure(.notConnected(let why)) = refused else { return false }
            return why.contains("127.0.0.1:\(port)") && !why.contains("secret")
        }
        await rpc.stop()
        await pool.stop()
    }
}
