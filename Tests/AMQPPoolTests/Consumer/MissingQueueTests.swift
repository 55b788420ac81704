import BrokerSupport
import LocalBroker
import NIOCore
import Supervision
import SupervisionTesting
import Testing

@testable import AMQPPool

@Suite("A consumer whose queue is not there")
struct MissingQueueTests {
    private func run(
        _ policy: MissingQueuePolicy,
        handler: @escaping @Sendable (Delivery) async throws -> Void = { _ in },
        _ body: @escaping @Sendable (Supervisor, AMQPPool, LocalBroker, String) async throws -> Void
    ) async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let pool = try RunningConsumer.pool(url)
            var configuration = RunningConsumer.quick()
            configuration.missingQueue = policy
            let root = Supervisor("app", intensity: RestartIntensity(0, within: .seconds(1))) { [configuration] in
                pool.supervisor
                Child.consumer("consumer", of: "q", on: pool, configuration: configuration, handler: handler)
            }
            try await body(root, pool, broker, virtualHost)
        }
    }

    @Test("It waits, without failing, and consumes as soon as somebody has declared it")
    func waits() async throws {
        let handled = Recorder<String>()
        try await run(.wait, handler: { handled.append($0.text) }) { root, pool, broker, virtualHost in
            try await root.start()
            try await pool.waitUntilReady(timeout: .seconds(60))
            let pid = try LiveTree(root).process("app/consumer").pid
            // A few attempts.
            for _ in 0..<20 { _ = try await broker.channels(virtualHost: virtualHost) }
            try await broker.declareQueue("q", virtualHost: virtualHost)
            try await pool.publish(ByteBuffer(string: "a"), routingKey: "q", mandatory: true, timeout: .seconds(60))
            try await handled.wait(for: 1)
            #expect(try LiveTree(root).process("app/consumer").pid == pid)
            try await eventually("no channel of an attempt is left") {
                try await broker.channels(virtualHost: virtualHost).count == 2
            }
            await root.stop()
        }
    }

    @Test("With a limit it fails after that, with the broker's text")
    func fails() async throws {
        try await run(.fail(after: .milliseconds(100))) { root, _, _, _ in
            do {
                try await within(.seconds(60)) { try await root.run() }
                Issue.record("ended without an error")
            } catch {
                #expect("\(error)".contains("404 NOT_FOUND - no queue 'q'"))
            }
        }
    }

    @Test("The limit counts from when the queue was last there")
    func limitBeginsAnew() async throws {
        let handled = Recorder<String>()
        try await run(.fail(after: .seconds(30)), handler: { handled.append($0.text) }) { root, pool, broker, host in
            try await root.start()
            for round in 1...3 {
                try await broker.declareQueue("q", virtualHost: host)
                try await pool.publish(ByteBuffer(string: "a"), routingKey: "q", mandatory: true, timeout: .seconds(60))
                try await handled.wait(for: round)
                try await broker.deleteQueue("q", virtualHost: host)
            }
            #expect(try LiveTree(root).process("app/consumer").pid.isAlive)
            await root.stop()
        }
    }

    @Test("A sequence of deliveries waits, or ends, by the same policy")
    func deliveries() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let pool = try RunningConsumer.pool(url)
            try await pool.start()
            let error = await #expect(throws: AMQPError.self) {
                try await within(.seconds(60)) {
                    try await pool.withDeliveries(of: "q", missingQueue: .fail(after: .zero)) { deliveries in
                        for await _ in deliveries {}
                    }
                }
            }
            #expect(error?.replyCode == 404)
            await pool.stop()
        }
    }
}

@Suite("What a consumer can be told")
struct ConsumerArgumentsTests {
    @Test("Priorities and offsets are sent as the broker wants them, and checked before")
    func tables() throws {
        #expect(try ConsumerArguments().fieldTable() == [:])
        #expect(try ConsumerArguments(priority: -3).fieldTable() == ["x-priority": .int32(-3)])
        let offsets: [(ConsumerArguments.StreamOffset, FieldValue)] = [
            (.first, "first"), (.last, "last"), (.next, "next"), (.offset(7), .int64(7)),
            (.timestamp(1_700_000_000), .timestamp(1_700_000_000)), (.age(.milliseconds(1500)), "2s"),
        ]
        for (offset, value) in offsets {
            #expect(try ConsumerArguments(streamOffset: offset).fieldTable() == ["x-stream-offset": value])
        }
        for offset in [ConsumerArguments.StreamOffset.offset(-1), .age(.zero), .age(.seconds(-1))] {
            #expect(throws: AMQPError.self) { try ConsumerArguments(streamOffset: offset).fieldTable() }
        }
        #expect(throws: AMQPError.self) {
            try ConsumerArguments(priority: 1, others: ["x-priority": .int32(1)]).fieldTable()
        }
    }

    @Test("The broker knows the priority of a consumer, and what cannot be sent ends it at once")
    func priority() async throws {
        var configuration = RunningConsumer.quick()
        configuration.arguments.priority = 7
        try await RunningConsumer.run(configuration, handler: { _ in }) { app in
            try await eventually("it consumes with its priority") {
                try await app.broker.consumers(virtualHost: app.virtualHost).first?.arguments["x-priority"]
                    == .integer(7)
            }
        }
        configuration.arguments = ConsumerArguments(streamOffset: .offset(-1))
        try await TestBroker.withVirtualHost { [configuration] broker, url, virtualHost in
            try await broker.declareQueue("q", virtualHost: virtualHost)
            let pool = try RunningConsumer.pool(url)
            let root = Supervisor("app", intensity: RestartIntensity(0, within: .seconds(1))) {
                pool.supervisor
                Child.consumer("consumer", of: "q", on: pool, configuration: configuration, handler: { _ in })
            }
            do {
                try await within(.seconds(60)) { try await root.run() }
                Issue.record("ended without an error")
            } catch {
                #expect("\(error)".contains("x-stream-offset must be at least 0"))
            }
        }
    }

    @Test("A stream is read from where the offset says")
    func stream() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let pool = try RunningConsumer.pool(url)
            try await pool.start()
            try await pool.withDedicatedChannel(timeout: .seconds(60)) { channel in
                try await channel.declareQueue("log", arguments: QueueArguments(type: .stream))
                for number in 0..<5 {
                    try await channel.publish(ByteBuffer(string: "\(number)"), routingKey: "log", mandatory: true)
                }
            }
            let seen = try await within(.seconds(60)) {
                try await pool.withDeliveries(of: "log", arguments: ConsumerArguments(streamOffset: .offset(2))) {
                    log in
                    var seen: [String] = []
                    for await message in log {
                        seen.append(message.delivery.text)
                        message.acknowledge()
                        if seen.count == 3 { break }
                    }
                    return seen
                }
            }
            #expect(seen == ["2", "3", "4"])
            await pool.stop()
        }
    }
}
