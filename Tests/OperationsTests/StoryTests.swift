import AMQPPool
import BrokerSupport
import LocalBroker
import Logging
import NIOCore
import QueueWorkers
import RPCCaller
import RPCReceiver
import Supervision
import Synchronization
import Testing

/// Each story is played on a real broker, and the whole log at `info` compared: nothing is missing, and nothing is said twice.
@Suite("The log tells the story")
struct StoryTests {
    struct Order: Codable, Sendable {
        var number: Int
    }

    private static func configuration(_ url: String) throws -> PoolConfiguration {
        var configuration = PoolConfiguration(endpoints: [try Endpoint(url: url)])
        configuration.backoff = Backoff(minimum: .milliseconds(50), maximum: .milliseconds(200), jitter: 0)
        return configuration
    }

    private static let place = "broker=RabbitMQ endpoint=amqp://BROKER/VHOST"

    @Test("Boot and stop: what starts says so, to what it is connected as whom, what it serves, and that it stops")
    func bootAndStop() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let log = StoryLog()
            // Two connections, which both declare the quorum queue: RabbitMQ closes one (541) when they do so at the same moment.
            let pool = AMQPPool(configuration: try Self.configuration(url), logger: log.logger)
            let rpc = RPCCaller(service: "checkout", on: pool)
            var settings = RPCReceiverConfiguration()
            settings.queueArguments = ["x-queue-type": .string("quorum")]
            let receiver = RPCReceiver(
                service: "math",
                on: pool,
                configuration: settings,
                procedures: RPCHandlers {
                    RPCHandler("add") { (numbers: [Int], _) in numbers.reduce(0, +) }
                }
            )
            let app = Supervisor("app", strategy: .restForOne, logger: log.logger) {
                pool.supervisor
                rpc.supervisor
                receiver.supervisor
                Child.worker(of: Order.self, from: "orders", on: pool) { _, _ in }
            }
            try await app.start()
            try await rpc.waitUntilReady(timeout: .seconds(90))
            try await receiver.waitUntilReady(timeout: .seconds(90))
            try await log.wait(for: "worker consuming")
            await app.stop()
            #expect(
                log.about("pool") == [
                    "info pool started pool=amqp-pool",
                    "info pool connected after=TIME attempts=N \(Self.place) pool=amqp-pool user=guest",
                    "info pool stopping in-work=0 pool=amqp-pool",
                    "info pool stopped pool=amqp-pool",
                ]
            )
            #expect(
                log.about("caller") == [
                    "info caller started caller=checkout",
                    "info caller connected after=TIME \(Self.place) caller=checkout replies=QUEUE user=guest"
                        .sortedMetadata,
                    "info caller stopping caller=checkout in-work=0",
                    "info caller stopped caller=checkout",
                ]
            )
            #expect(
                log.about("receiver") == [
                    "info receiver started receiver=math",
                    "info receiver serving after=TIME \(Self.place) procedures=1 queue=math.rpcs receiver=math user=guest",
                    "info receiver stopping in-work=0 receiver=math",
                    "info receiver stopped receiver=math",
                ]
            )
            #expect(
                log.about("worker") == [
                    "info worker started worker=app/orders",
                    "info worker consuming after=TIME \(Self.place) queue=orders user=guest worker=app/orders",
                    "info worker stopping in-work=0 worker=app/orders",
                    "info worker stopped worker=app/orders",
                ]
            )
            #expect(
                log.about("tree") == [
                    "info tree started supervision.children=4", "info tree stopping supervision.reason=shutdown",
                    "info tree stopped supervision.reason=shutdown",
                ]
            )
            #expect(log.all.count == 19, "\(log.all.joined(separator: "\n"))")
        }
    }

    @Test(
        "An outage: lost once with the reason, why it cannot connect, and that it is over, after how long and how many attempts"
    )
    func outage() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let log = StoryLog()
            let proxy = try await FaultProxy.start(to: broker)
            let pool = AMQPPool(
                configuration: try Self.configuration(proxy.url(virtualHost: virtualHost)),
                logger: log.logger
            )
            let app = Supervisor("app", logger: log.logger) {
                pool.supervisor
                Child.worker(of: Order.self, from: "orders", on: pool) { _, _ in }
            }
            try await app.start()
            try await log.wait(for: "worker consuming")
            try await waitForConnections(2, of: pool)
            try await proxy.setNewConnections(.refused)
            await proxy.cut()
            try await log.wait(for: "pool cannot connect")
            // Many attempts, of which nothing is said.
            try await Task.sleep(for: .seconds(2))
            try await proxy.setNewConnections(.accepted)
            try await log.wait(for: "connected again")
            try await log.wait(for: "consuming again")
            await app.stop()
            await proxy.shutdown()
            let lost = "reason=the connection was lost: connection reset by peer"
            let pool1 = log.about("pool").filter { !$0.contains("started") && !$0.contains("stop") }
            #expect(pool1.count == 4, "\(log.all.joined(separator: "\n"))")
            #expect(
                pool1.dropFirst().first?.hasPrefix("warning pool has lost the broker pool=amqp-pool \(lost)") == true
            )
            #expect(
                pool1.dropFirst(2).first?.hasPrefix(
                    "warning pool cannot connect attempt=1 endpoint=amqp://BROKER/VHOST"
                ) == true
            )
            #expect(
                pool1.last == "info pool connected again after=TIME attempts=N \(Self.place) pool=amqp-pool user=guest"
            )
            let worker = log.about("worker").filter { !$0.contains("started") && !$0.contains("stop") }
            #expect(worker.count == 3, "\(log.all.joined(separator: "\n"))")
            #expect(worker.dropFirst().first?.hasPrefix("warning worker has lost the broker") == true)
            #expect(worker.last?.hasPrefix("info worker consuming again after=TIME") == true)
            #expect(log.about("child").isEmpty, "\(log.all.joined(separator: "\n"))")
        }
    }

    @Test("A broker that closes connections in order is no warning")
    func orderly() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let log = StoryLog()
            let pool = AMQPPool(configuration: try Self.configuration(url), logger: log.logger)
            try await pool.start()
            try await pool.waitUntilReady(timeout: .seconds(90))
            try await waitForConnections(2, of: pool)
            for connection in try await broker.connections(virtualHost: virtualHost) {
                try await broker.closeConnection(connection.name)
            }
            try await log.wait(for: "again")
            await pool.stop()
            #expect(log.all.allSatisfy { $0.hasPrefix("info ") }, "\(log.all.joined(separator: "\n"))")
        }
    }

    @Test("Refused credentials and virtual hosts are errors, told once")
    func refused() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            for (url, reason) in [
                ("amqp://guest:wrong@127.0.0.1:\(broker.port)/\(virtualHost)", "refused the credentials"),
                ("amqp://guest:guest@127.0.0.1:\(broker.port)/nowhere", "refused the virtual host"),
            ] {
                let log = StoryLog()
                let pool = AMQPPool(configuration: try Self.configuration(url), logger: log.logger)
                try await pool.start()
                try await log.wait(for: reason)
                try await Task.sleep(for: .seconds(1))
                await pool.stop()
                #expect(log.all.filter { $0.hasPrefix("error ") }.count == 1, "\(log.all.joined(separator: "\n"))")
                #expect(log.all.count == 4, "\(log.all.joined(separator: "\n"))")
                #expect(!log.all.joined().contains("wrong"))
            }
        }
    }

    @Test("A restart storm: each restart is one line with what, why, which and when, and the end says who gave up")
    func restartStorm() async throws {
        struct Broken: Error, CustomStringConvertible {
            var description: String { "broken" }
        }
        actor Crasher: Worker {
            func run() async throws { throw Broken() }
        }
        let log = StoryLog()
        let tree = Supervisor("app", intensity: .init(3, within: .seconds(60)), logger: log.logger) {
            Child(
                "crasher",
                options: ChildOptions(
                    backoff: Backoff(minimum: .milliseconds(5), maximum: .milliseconds(20), jitter: 0)
                )
            ) { _ in
                Crasher()
            }
        }
        await #expect(throws: SupervisionError.self) { try await tree.run() }
        let ended = "error child ended supervision.path=app/crasher supervision.reason=crashed: broken"
        let gaveUp = "restart intensity exceeded"
        #expect(
            log.all.map { $0.contains(gaveUp) && $0.hasPrefix("info") ? String($0.prefix(18)) : $0 } == [
                "info tree started supervision.children=1",
                "\(ended) supervision.restart=1 supervision.retry-in=TIME",
                "\(ended) supervision.restart=2 supervision.retry-in=TIME",
                "\(ended) supervision.restart=3 supervision.retry-in=TIME",
                ended,
                "error restart intensity exceeded, supervisor gives up supervision.path=app/crasher"
                    + " supervision.reason=crashed: broken",
                // There is nothing left to stop.
                "info tree stopped ",
            ]
        )
    }

    @Test("A dynamic child has the same path in the log over its restarts")
    func dynamicPath() async throws {
        actor Idle: Worker {
            func run() async throws { try await Task.sleep(for: .seconds(3600)) }
        }
        let log = StoryLog()
        let tree = Supervisor("app", logger: log.logger) {
            DynamicSupervisor("sessions", intensity: .init(10, within: .seconds(60)))
        }
        try await tree.start()
        let sessions = try tree.dynamicSupervisor("sessions")
        let child = try #require(try await sessions.startChild(Child("s") { _ in Idle() }, as: Idle.self))
        for count in 1...3 {
            try #require(child.pid).kill()
            try await log.wait(for: "child ended", count: count)
            try await LiveWait.until { child.pid?.isAlive == true }
        }
        await tree.stop()
        let paths = log.all.filter { $0.contains("child ended") }.compactMap {
            $0.firstMatch(of: /supervision\.path=(\S+)/)?.1
        }
        #expect(paths.count == 3)
        #expect(Set(paths).count == 1)
    }

    @Test("A poison message: which one it is, which attempt of how many, and what becomes of it")
    func poison() async throws {
        struct NoStock: Error, CustomStringConvertible {
            var description: String { "no stock" }
        }
        try await TestBroker.withVirtualHost { _, url, _ in
            let log = StoryLog()
            let pool = AMQPPool(configuration: try Self.configuration(url), logger: log.logger)
            let app = Supervisor("app", logger: log.logger) {
                pool.supervisor
                Child.worker(
                    of: Order.self,
                    from: "orders",
                    on: pool,
                    retry: .after(
                        [.milliseconds(10), .milliseconds(20), .milliseconds(30), .milliseconds(40)],
                        then: .park
                    )
                ) { _, _ in throw NoStock() }
            }
            try await app.start()
            try await log.wait(for: "worker consuming")
            try await pool.publish(Order(number: 7), to: "orders", id: "order-7")
            try await log.wait(for: "a message is given up")
            await app.stop()
            let lines = log.all.filter { $0.contains("order-7") }
            let rest = "exchange= messaging.destination.name=orders messaging.message.id=order-7 routing-key=orders"
            func line(_ level: String, _ text: String, _ attempt: Int, _ decision: String) -> String {
                "\(level) \(text) attempt=\(attempt) of 5 decision=\(decision) error=no stock \(rest)"
            }
            let again = "a message could not be handled, and is retried"
            let pauses = ["10ms", "20ms", "30ms", "40ms"]
            var expected = pauses.enumerated().map { line("warning", again, $0 + 1, "it is retried after \($1)") }
            expected.append(line("error", "a message is given up", 5, "it is moved to orders.failed"))
            #expect(
                lines.map { $0.replacing(#/ supervision\.path=\S+/#, with: "") } == expected,
                "\(lines.joined(separator: "\n"))"
            )
        }
    }

    @Test("A rolling stop: how many are in work when it stops, and when it has stopped")
    func rollingStop() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let log = StoryLog()
            let (begun, mayEnd) = (Signal(), Signal())
            var settings = RPCReceiverConfiguration(endpoints: [try Endpoint(url: url)])
            settings.queueArguments = ["x-queue-type": .string("quorum")]
            let receiver = RPCReceiver(
                service: "slow",
                configuration: settings,
                logger: log.logger,
                procedures: RPCHandlers {
                    RPCHandler("wait") { (number: Int, _) in
                        begun.fire()
                        await mayEnd.wait()
                        return number
                    }
                }
            )
            try await receiver.start()
            try await receiver.waitUntilReady(timeout: .seconds(90))
            let rpc = RPCCaller(service: "caller", endpoints: [try Endpoint(url: url)])
            try await rpc.start()
            async let answer = rpc.call("slow", "wait", 1, timeout: .seconds(60), as: Int.self)
            await begun.wait()
            async let stopped: Void = receiver.stop()
            try await log.wait(for: "receiver stopping")
            mayEnd.fire()
            #expect(try await answer == 1)
            await stopped
            await rpc.stop()
            #expect(
                log.all == [
                    "info receiver started receiver=slow",
                    "info receiver serving after=TIME attempts=N \(Self.place) procedures=1 queue=slow.rpcs receiver=slow"
                        + " user=guest",
                    "info receiver stopping in-work=1 receiver=slow", "info receiver stopped receiver=slow",
                ]
            )
        }
    }

    private func waitForConnections(_ count: Int, of pool: AMQPPool) async throws {
        try await LiveWait.until { pool.connections.count == count }
        // Its channels are counted too once they are ready.
        try await LiveWait.until { pool.channelRegistry?.channels.count == count }
    }
}

/// Looks again until something is so.
enum LiveWait {
    struct TooLate: Error {}

    static func until(_ condition: () -> Bool) async throws {
        for _ in 0..<9000 {
            if condition() { return }
            try await Task.sleep(for: .milliseconds(10))
        }
        throw TooLate()
    }
}

/// Something that happens once.
final class Signal: Sendable {
    private let stream: AsyncStream<Void>
    private let continuation: AsyncStream<Void>.Continuation

    init() { (stream, continuation) = AsyncStream.makeStream(of: Void.self) }

    func fire() { continuation.finish() }

    func wait() async { for await _ in stream {} }
}

extension String {
    /// The same line with its metadata by key.
    fileprivate var sortedMetadata: String {
        let words = split(separator: " ").map(String.init)
        let text = words.filter { !$0.contains("=") }
        return (text + words.filter { $0.contains("=") }.sorted { $0.prefix { $0 != "=" } < $1.prefix { $0 != "=" } })
            .joined(separator: " ")
    }
}
