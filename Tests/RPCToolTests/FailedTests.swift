#if os(Linux)
import AMQPPool
import BrokerSupport
import Foundation
import LocalBroker
import NIOCore
import QueueWorkers
import Supervision
import Testing

@Suite("rpc failed", .serialized)
struct FailedTests {
    private struct Refused: Error, CustomStringConvertible {
        let description = "the address is \u{1B}[31mred"
    }

    /// Runs the body with a queue "orders.failed" in which a worker has parked messages "1", "2" and "3".
    private func withFailures(
        _ body: @escaping @Sendable (LocalBroker, String, String) async throws -> Void
    ) async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let pool = AMQPPool(endpoints: [try Endpoint(url: url)], connections: 1)
            let root = Supervisor("shop") {
                pool.supervisor
                Child.worker(of: Int.self, from: "orders", on: pool, retry: .never()) { _, _ in throw Refused() }
            }
            try await root.start()
            func messages(in queue: String) async throws -> Int? {
                try await broker.queue(queue, virtualHost: virtualHost)?.messages
            }
            // The broker tells of a quorum queue before it is declared.
            while try await !broker.consumers(virtualHost: virtualHost).contains(where: { $0.queue == "orders" }) {
                try await Task.sleep(for: .milliseconds(20))
            }
            for number in 1...3 { try await pool.publish(number, to: "orders", id: "\(number)") }
            while try await messages(in: "orders.failed") != 3 { try await Task.sleep(for: .milliseconds(20)) }
            await root.stop()
            try await body(broker, url, virtualHost)
        }
    }

    @Test("Lists and shows what was parked, which stays, and prints nothing that a terminal would obey")
    func looks() async throws {
        try await withFailures { broker, url, virtualHost in
            for _ in 0..<2 {
                let list = try await RunningTool(["failed", "ls", "orders.failed", "--url", url]).ending()
                #expect(list.code == 0, "\(list)")
                let lines = list.output.split(separator: "\n").map { $0.split(separator: "\t").map(String.init) }
                #expect(Set(lines.map { $0.first ?? "" }) == ["1", "2", "3"])
                for line in lines { #expect(line.dropFirst() == ["1", "orders", "the address is \\u{1B}[31mred"]) }
            }
            let shown = try await RunningTool(["failed", "show", "orders.failed", "2", "--url", url]).ending()
            #expect(shown.output.contains("failure-queue: orders"))
            #expect(shown.output.hasSuffix("\n2\n"))
            #expect(!shown.output.contains("\u{1B}"))
            let missing = try await RunningTool(["failed", "show", "orders.failed", "9", "--url", url]).ending()
            #expect(missing.code == 1)
            try await broker.waitForMessages(3, in: "orders.failed", virtualHost: virtualHost)
        }
    }

    @Test("Puts back one, then all that are left, without what was noted of the failure")
    func requeues() async throws {
        try await withFailures { broker, url, virtualHost in
            let one = try await RunningTool(
                ["failed", "requeue", "orders.failed", "--id", "2", "--url", url]
            ).ending()
            #expect(one.output == "1 put back\n", "\(one)")
            let young = try await RunningTool(
                ["failed", "requeue", "orders.failed", "--older", "3600", "--url", url]
            ).ending()
            #expect(young.output == "0 put back\n", "\(young)")
            let all = try await RunningTool(["failed", "requeue", "orders.failed", "--all", "--url", url]).ending()
            #expect(all.output == "2 put back\n", "\(all)")
            try await broker.waitForMessages(0, in: "orders.failed", virtualHost: virtualHost)
            try await broker.waitForMessages(3, in: "orders", virtualHost: virtualHost)
            let pool = AMQPPool(endpoints: [try Endpoint(url: url)], connections: 1)
            try await pool.start()
            let first = try await pool.withDedicatedChannel { try await $0.get(queue: "orders", noAck: true) }
            #expect(first?.properties.messageID == "2")
            // What a quorum queue adds itself.
            #expect(first?.properties.headers.entries.map(\.key).filter { $0 != "x-delivery-count" } == [])
            await pool.stop()
        }
    }

    @Test("Drops what is named, and nothing without being told which")
    func drops() async throws {
        try await withFailures { broker, url, virtualHost in
            let vague = try await RunningTool(["failed", "drop", "orders.failed", "--url", url]).ending()
            #expect(vague.code == 64)
            let one = try await RunningTool(["failed", "drop", "orders.failed", "--id", "1", "--url", url]).ending()
            #expect(one.output == "1 dropped\n", "\(one)")
            try await broker.waitForMessages(2, in: "orders.failed", virtualHost: virtualHost)
        }
    }

    @Test("A plain dead letter queue is put back to where the broker says it came from")
    func plainDeadLetters() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let pool = AMQPPool(endpoints: [try Endpoint(url: url)], connections: 1)
            try await pool.start()
            try await pool.withDedicatedChannel { channel in
                try await channel.declareQueue("dead", durable: true)
                var arguments = QueueArguments(type: .classic)
                arguments.deadLetterExchange = ""
                arguments.deadLetterRoutingKey = "dead"
                try await channel.declareQueue("jobs", arguments: arguments)
                try await channel.selectConfirms()
                try await channel.publish(ByteBuffer(string: "a"), routingKey: "jobs")
                let delivery = try await channel.get(queue: "jobs")
                channel.reject(delivery?.deliveryTag ?? 0, requeue: false)
            }
            try await broker.waitForMessages(1, in: "dead", virtualHost: virtualHost)
            let list = try await RunningTool(["failed", "ls", "dead", "--url", url]).ending()
            #expect(list.output == "-\t1\tjobs\trejected\n", "\(list)")
            let all = try await RunningTool(["failed", "requeue", "dead", "--all", "--url", url]).ending()
            #expect(all.output == "1 put back\n", "\(all)")
            try await broker.waitForMessages(1, in: "jobs", virtualHost: virtualHost)
            await pool.stop()
        }
    }
}

/// A plain dead letter queue with many messages, which a tool empties that is interrupted.
@Suite("rpc failed, interrupted", .serialized, .timeLimit(.minutes(5)))
struct InterruptedFailedTests {
    private enum Interruption: CaseIterable {
        case killed, interrupted, brokerKilled
    }

    private static func arguments(from source: String, to target: String, _ broker: LocalBroker) -> [String] {
        ["failed", "requeue", source, "--all", "--to", target, "--url", broker.url]
    }

    @Test(
        "loses nothing, and leaves one message twice at the most, unless the broker forgets acknowledgements",
        arguments: Interruption.allCases
    )
    private func requeue(_ interruption: Interruption) async throws {
        let count = 600
        let broker = try await LocalBroker.start()
        let pool = AMQPPool(endpoints: [try Endpoint(url: broker.url)], connections: 1)
        try await pool.start()
        try await pool.withDedicatedChannel(timeout: .seconds(60)) { channel in
            for queue in ["dead", "jobs"] { try await channel.declareQueue(queue, durable: true) }
            try await channel.selectConfirms()
            for number in 0..<count {
                let properties = MessageProperties(deliveryMode: .persistent, messageID: "\(number)")
                try await channel.publish(ByteBuffer(string: "a"), properties: properties, routingKey: "dead")
            }
        }
        var (source, target) = ("dead", "jobs")
        var ending: RunningTool.Ending
        var attempts = 0
        repeat {
            attempts += 1
            try #require(attempts <= 20, "each run was faster than this test")
            let tool = try RunningTool(Self.arguments(from: source, to: target, broker))
            while try await messages(in: target, pool) < 50 { try await Task.sleep(for: .milliseconds(2)) }
            switch interruption {
            case .killed: tool.signal(SIGKILL)
            case .interrupted: tool.signal(SIGINT)
            case .brokerKilled: try await broker.kill()
            }
            ending = await tool.ending()
            if interruption == .brokerKilled { try await broker.startAgain() }
            // It was done before it was interrupted: then the other way round. No run ends well with a message left, but a killed broker
            // brings back what it had not written down.
            if ending.code == 0 {
                if interruption != .brokerKilled {
                    try #require(try await messages(in: source, pool) == 0, "\(ending)")
                }
                swap(&source, &target)
            }
        } while ending.code == 0
        try await pool.waitUntilReady(timeout: .seconds(60))

        let rest = try await RunningTool(Self.arguments(from: source, to: target, broker)).ending()
        #expect(rest.code == 0, "\(rest)")
        let ids = try await pool.withDedicatedChannel(timeout: .seconds(60)) { [target] channel in
            var ids: [String] = []
            while let delivery = try await channel.get(queue: target, noAck: true) {
                ids.append(delivery.properties.messageID ?? "")
            }
            return ids
        }
        #expect(Set(ids) == Set((0..<count).map(String.init)))
        // A broker that is killed may not have written down what was acknowledged last.
        if interruption != .brokerKilled { #expect(ids.count - count <= 1) }
        #expect(try await messages(in: source, pool) == 0)
        await pool.stop()
        await broker.shutdown()
    }

    private func messages(in queue: String, _ pool: AMQPPool) async throws -> Int {
        try await pool.withDedicatedChannel(timeout: .seconds(60)) {
            try await $0.declareQueue(queue, passive: true).messageCount
        }
    }
}

extension LocalBroker {
    /// What the broker tells of a queue is a little older than what it does.
    fileprivate func waitForMessages(_ count: Int, in queue: String, virtualHost: String) async throws {
        let deadline = ContinuousClock.now + .seconds(60)
        var messages: Int?
        repeat {
            messages = try await self.queue(queue, virtualHost: virtualHost)?.messages
            if messages == count { return }
            try await Task.sleep(for: .milliseconds(20))
        } while ContinuousClock.now < deadline
        #expect(messages == count)
    }
}
#endif
