import BrokerSupport
import LocalBroker
import NIOCore
import Supervision
import SupervisionTesting
import Synchronization
import Testing

@testable import AMQPPool

/// What people have reported of consumers: docs/reliability.md, R65 and further.
@Suite("A consumer in trouble that was reported")
struct ConsumerFaultTests {
    private static let deadLetters: FieldTable = [
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead",
    ]

    private func messages(in queue: String, _ app: RunningConsumer) async throws -> Int? {
        try await app.broker.queue(queue, virtualHost: app.virtualHost)?.messages
    }

    @Test(
        "In a full queue that refuses what is published, a message is tried as often as it may"
    )
    func fullQueue() async throws {
        var configuration = RunningConsumer.quick()
        configuration.onFailure = .deadLetterAfter(4)
        configuration.concurrency = 1
        configuration.prefetch = 5
        var arguments = Self.deadLetters
        arguments["x-max-length"] = .int64(3)
        arguments["x-overflow"] = "reject-publish"
        let tried = Recorder<String>()
        let gate = Gate()
        try await RunningConsumer.run(
            configuration,
            arguments: arguments,
            handler: { delivery in
                try await gate.passed()
                tried.append(delivery.text)
                if delivery.text == "poison" { throw Poison() }
            }
        ) { app in
            try await app.pool.withChannel { _ = try await $0.declareQueue("dead", durable: true) }
            try await app.publish("poison", "a", "b", "c")
            gate.open()
            try await eventually("the dead letter") { try await messages(in: "dead", app) == 1 }
            try await app.empty()
        }
        #expect(tried.values.filter { $0 == "poison" }.count == 4)
        #expect(Set(tried.values) == ["poison", "a", "b", "c"])
        // Others were handled while it waited.
        #expect(tried.values.last == "poison")
    }

    @Test("What is given up is kept until it can be published, and others are handled meanwhile")
    func deadLettersUnreachable() async throws {
        var configuration = RunningConsumer.quick()
        configuration.onFailure = .reject
        configuration.deadLetters = DeadLetterAddress(routingKey: "dead")
        let handled = Recorder<String>()
        try await RunningConsumer.run(
            configuration,
            handler: { delivery in
                handled.append(delivery.text)
                if delivery.text == "poison" { throw Poison() }
            }
        ) { app in
            try await app.publish("poison", "a", "b", properties: MessageProperties(messageID: "7"))
            try await handled.wait(for: 3)
            try await eventually("only the poison is left") { try await messages(in: "q", app) == 1 }
            try await app.broker.declareQueue("dead", virtualHost: app.virtualHost)
            try await app.empty()
            let dead = try await app.pool.withDedicatedChannel { try await $0.get(queue: "dead", noAck: true) }
            #expect(dead?.text == "poison")
            #expect(dead?.properties.messageID == "7")
            #expect(dead?.properties.headers["failure-queue"] == "q")
        }
        #expect(handled.values.filter { $0 == "poison" }.count == 1)
    }

    @Test("A message with CC is copied to those queues once, however often it is tried and when it is given up")
    func copies() async throws {
        var configuration = RunningConsumer.quick()
        configuration.onFailure = .deadLetterAfter(4)
        configuration.deadLetters = DeadLetterAddress(routingKey: "dead")
        let tried = Recorder<String>()
        try await RunningConsumer.run(
            configuration,
            handler: { delivery in
                tried.append(delivery.text)
                throw Poison()
            }
        ) { app in
            for queue in ["dead", "copy", "blind"] {
                try await app.broker.declareQueue(queue, virtualHost: app.virtualHost)
            }
            let headers: FieldTable = ["CC": .array(["copy"]), "BCC": .array(["blind"])]
            try await app.publish("poison", properties: MessageProperties(headers: headers))
            try await tried.wait(for: 4)
            try await eventually("the dead letter") { try await messages(in: "dead", app) == 1 }
            #expect(try await messages(in: "copy", app) == 1)
            #expect(try await messages(in: "blind", app) == 1)
        }
    }

    @Test(
        "A message that ends its consumer each time is given up by the count of a quorum queue"
    )
    func killer() async throws {
        var configuration = RunningConsumer.quick()
        configuration.onFailure = .deadLetterAfter(3)
        var arguments = Self.deadLetters
        arguments["x-queue-type"] = "quorum"
        let begun = Recorder<String>()
        let handled = Recorder<String>()
        try await RunningConsumer.run(
            configuration,
            arguments: arguments,
            handler: { delivery in
                guard delivery.text == "killer" else { return handled.append(delivery.text) }
                begun.append(delivery.text)
                try await Gate().passed()
            }
        ) { app in
            try await app.pool.withChannel { _ = try await $0.declareQueue("dead", durable: true) }
            try await app.publish("killer")
            for round in 1...3 {
                try await begun.wait(for: round)
                try app.tree.end(RunningConsumer.path, by: .kill)
            }
            try await eventually("the dead letter") { try await messages(in: "dead", app) == 1 }
            try await app.publish("good")
            try await handled.wait(for: 1)
        }
        #expect(begun.values.count == 3)
    }

    @Test("A connection lost once, then a handler that fails: still as many attempts as the policy says")
    func lostOnceThenFailing() async throws {
        var configuration = RunningConsumer.quick()
        configuration.onFailure = .deadLetterAfter(5)
        var arguments = Self.deadLetters
        arguments["x-queue-type"] = "quorum"
        let begun = Recorder<Int>()
        try await RunningConsumer.run(
            configuration,
            arguments: arguments,
            handler: { delivery in
                let number = begun.values.count
                begun.append(number)
                if number == 0 { try await Gate().passed() }
                throw Poison()
            }
        ) { app in
            try await app.pool.withChannel { _ = try await $0.declareQueue("dead", durable: true) }
            try await app.publish("poison")
            try await begun.wait(for: 1)
            let connection = try #require(
                try await app.broker.consumers(virtualHost: app.virtualHost).first?.connection
            )
            try await app.broker.dropConnection(connection)
            try await eventually("the dead letter") { try await messages(in: "dead", app) == 1 }
        }
        #expect(begun.values.count == 5)
    }

    @Test("A message that is given up while its consumer stops is there once afterwards")
    func givenUpWhileStopping() async throws {
        for _ in 0..<10 {
            var configuration = RunningConsumer.quick()
            configuration.onFailure = .reject
            configuration.deadLetters = DeadLetterAddress(routingKey: "dead")
            let begun = Recorder<String>()
            let gate = Gate()
            try await RunningConsumer.run(
                configuration,
                handler: { delivery in
                    begun.append(delivery.text)
                    try await gate.passed()
                    throw Poison()
                }
            ) { app in
                try await app.broker.declareQueue("dead", virtualHost: app.virtualHost)
                try await app.publish("a", "b", "c")
                try await begun.wait(for: 3)
                let pid = try app.tree.process(RunningConsumer.path).pid
                gate.open()
                pid.exit(.shutdown())
                try await eventually("all are dead letters") { try await messages(in: "dead", app) == 3 }
                try await app.empty()
                #expect(try await messages(in: "dead", app) == 3)
            }
        }
    }

    @Test(
        "A stream is told of nothing but acknowledgements, however its consumer fails and ends",
        arguments: [
            DeliveryFailurePolicy.ack, .reject, .requeue, .requeueOnce, .deadLetterAfter(3),
        ],
        [true, false]
    )
    func stream(_ policy: DeliveryFailurePolicy, _ isToldSo: Bool) async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let pool = try RunningConsumer.pool(url)
            var configuration = RunningConsumer.quick()
            configuration.onFailure = policy
            configuration.prefetch = 5
            if isToldSo { configuration.arguments.streamOffset = .first }
            let tried = Recorder<String>()
            let consuming = Recorder<Bool>()
            let isHealed = Atomic(false)
            let root = Supervisor("app", intensity: RestartIntensity(1000, within: .seconds(1))) { [configuration] in
                pool.supervisor
                Child.consumer("consumer", of: "log", on: pool, configuration: configuration) { _ in
                    consuming.append(true)
                } handler: { delivery in
                    tried.append(delivery.text)
                    if delivery.text == "poison", !isHealed.load(ordering: .relaxed) { throw Poison() }
                }
            }
            let arguments = QueueArguments(type: .stream)
            let declaring = try RunningConsumer.pool(url)
            try await declaring.start()
            try await declaring.withDedicatedChannel(timeout: .seconds(60)) {
                _ = try await $0.declareQueue("log", arguments: arguments)
            }
            await declaring.stop()
            try await root.start()
            try await consuming.wait(for: 1)
            let connections = try await broker.connections(virtualHost: virtualHost).map(\.name)
            @Sendable
            func publish(_ texts: String...) async throws {
                for text in texts {
                    try await pool.publish(
                        ByteBuffer(string: text),
                        routingKey: "log",
                        mandatory: true,
                        timeout: .seconds(60)
                    )
                }
            }
            // From where it begins it may miss the first ones.
            try await eventually("it consumes") {
                try await publish("warm up")
                return tried.values.contains("warm up")
            }
            try await publish("poison", "good")
            try await eventually("the others are handled") { tried.values.contains("good") }
            let attempts =
                switch policy {
                case .ack, .reject: 1
                case .requeueOnce: 2
                case .deadLetterAfter(let count): count
                case .requeue: 4
                }
            try await eventually("it is tried") { tried.values.filter { $0 == "poison" }.count >= attempts }
            // Ended while it works, too: nothing is given back to a stream.
            try await publish("poison")
            try LiveTree(root).end("app/consumer", by: .kill)
            try await consuming.wait(for: 2)
            try LiveTree(root).process("app/consumer").pid.exit(.shutdown())
            try await consuming.wait(for: 3)
            isHealed.store(true, ordering: .relaxed)
            try await eventually("it goes on") {
                try await publish("last")
                return tried.values.contains("last")
            }
            #expect(try await broker.connections(virtualHost: virtualHost).map(\.name) == connections)
            await root.stop()
        }
    }

    @Test("A stream is gone through once: a lost channel does not begin it anew")
    func streamGoesOn() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let pool = try RunningConsumer.pool(url)
            var configuration = RunningConsumer.quick()
            configuration.arguments.streamOffset = .first
            configuration.concurrency = 1
            let handled = Recorder<String>()
            let root = Supervisor("app", intensity: RestartIntensity(1000, within: .seconds(1))) { [configuration] in
                pool.supervisor
                Child.consumer("consumer", of: "log", on: pool, configuration: configuration) {
                    handled.append($0.text)
                }
            }
            let declaring = try RunningConsumer.pool(url)
            try await declaring.start()
            try await declaring.withDedicatedChannel(timeout: .seconds(60)) {
                _ = try await $0.declareQueue("log", arguments: QueueArguments(type: .stream))
            }
            await declaring.stop()
            try await root.start()
            for round in 0..<3 {
                for number in 0..<5 {
                    try await pool.publish(
                        ByteBuffer(string: "\(round * 5 + number)"),
                        routingKey: "log",
                        timeout: .seconds(60)
                    )
                }
                try await handled.wait(for: (round + 1) * 5)
                let name = try #require(try await broker.connections(virtualHost: virtualHost).first?.name)
                let channels = pool.readyChannels
                try await broker.closeConnection(name)
                // What is published before it is known is in doubt.
                try await eventually("it is known") { channels.contains { $0.closedError != nil } }
                try await pool.waitUntilReady(timeout: .seconds(60))
            }
            await root.stop()
            #expect(handled.values == (0..<15).map { "\($0)" })
        }
    }

    @Test("Whoever takes the messages of a stream himself can reject them, and gets the next")
    func streamDeliveries() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let pool = try RunningConsumer.pool(url)
            try await pool.start()
            try await pool.withDedicatedChannel(timeout: .seconds(60)) { channel in
                try await channel.declareQueue("log", arguments: QueueArguments(type: .stream))
                for number in 0..<3 { try await channel.publish(ByteBuffer(string: "\(number)"), routingKey: "log") }
            }
            let connections = try await broker.connections(virtualHost: virtualHost).map(\.name)
            let seen = try await within(.seconds(60)) {
                try await pool.withDeliveries(of: "log", arguments: ConsumerArguments(streamOffset: .first)) { log in
                    var seen: [String] = []
                    for await message in log {
                        message.reject(requeue: seen.isEmpty)
                        seen.append(message.delivery.text)
                        if seen.count == 4 { break }
                    }
                    return seen
                }
            }
            #expect(seen.sorted() == ["0", "0", "1", "2"])
            #expect(try await broker.connections(virtualHost: virtualHost).map(\.name) == connections)
            await pool.stop()
        }
    }

    @Test("A message of a plain queue that carries a stream's header is rejected like any other")
    func forgedOffset() async throws {
        var configuration = RunningConsumer.quick()
        configuration.onFailure = .reject
        let tried = Recorder<String>()
        try await RunningConsumer.run(
            configuration,
            arguments: Self.deadLetters,
            handler: { delivery in
                tried.append(delivery.text)
                throw Poison()
            }
        ) { app in
            try await app.pool.withChannel { _ = try await $0.declareQueue("dead", durable: true) }
            try await app.publish(
                "poison",
                properties: MessageProperties(headers: ["x-stream-offset": .int64(7)])
            )
            try await eventually("the dead letter") { try await messages(in: "dead", app) == 1 }
        }
        #expect(tried.values.count == 1)
    }

    @Test("A count of deliveries that a publisher wrote is not believed", arguments: [true, false])
    func forgedCount(_ isDeclaredByType: Bool) async throws {
        var configuration = RunningConsumer.quick()
        configuration.onFailure = .deadLetterAfter(3)
        var arguments = Self.deadLetters
        if isDeclaredByType { arguments["x-queue-type"] = "classic" }
        let tried = Recorder<String>()
        try await RunningConsumer.run(
            configuration,
            arguments: arguments,
            handler: { delivery in
                tried.append(delivery.text)
                throw Poison()
            }
        ) { app in
            try await app.pool.withChannel { _ = try await $0.declareQueue("dead", durable: true) }
            let headers: FieldTable = ["x-delivery-count": .int64(1000), "x-attempts": .int64(1000)]
            try await app.publish("poison", properties: MessageProperties(headers: headers))
            try await eventually("the dead letter") { try await messages(in: "dead", app) == 1 }
        }
        #expect(tried.values.count == 3)
    }

    @Test("An exclusive queue whose channel ended is consumed again on the same connection")
    func exclusiveQueue() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            var settings = PoolConfiguration(endpoints: [try Endpoint(url: url)])
            settings.connections = 8
            settings.killTimeout = .seconds(30)
            settings.connection.connectTimeout = .seconds(60)
            settings.connection.operationTimeout = .seconds(60)
            let pool = AMQPPool(configuration: settings)
            let opened = Recorder<AMQPChannel>()
            let handled = Recorder<String>()
            let root = Supervisor("app", intensity: RestartIntensity(1000, within: .seconds(1))) {
                pool.supervisor
                Child.consumer("consumer", of: "mine", on: pool, configuration: RunningConsumer.quick()) { channel in
                    try await channel.declareQueue("mine", exclusive: true)
                    opened.append(channel)
                } handler: {
                    handled.append($0.text)
                }
            }
            try await root.start()
            try await eventually("all connections are open") {
                try await broker.connections(virtualHost: virtualHost).count == 8
            }
            for round in 1...3 {
                try await opened.wait(for: round)
                try await pool.publish(
                    ByteBuffer(string: "a"),
                    routingKey: "mine",
                    mandatory: true,
                    timeout: .seconds(60)
                )
                try await handled.wait(for: round)
                let channel = try #require(opened.values.last)
                // Closes it for what it asks: a queue that is not there.
                _ = try? await channel.declareQueue("nowhere", passive: true)
            }
            try await opened.wait(for: 4)
            // Each time at the first attempt: elsewhere the declaration is refused (405).
            #expect(opened.values.allSatisfy { $0.connection === opened.values[0].connection })
            await root.stop()
        }
    }

    @Test(
        "Handlers that never end are given up at their time limit, and others are served"
    )
    func hanging() async throws {
        var configuration = RunningConsumer.quick()
        configuration.onFailure = .deadLetterAfter(2)
        configuration.handlerTimeLimit = .milliseconds(500)
        configuration.concurrency = 2
        configuration.prefetch = 10
        let begun = Recorder<String>()
        let handled = Recorder<String>()
        let stuck = Gate()
        try await RunningConsumer.run(
            configuration,
            arguments: Self.deadLetters,
            handler: { delivery in
                guard delivery.text == "hang" else { return handled.append(delivery.text) }
                begun.append(delivery.text)
                // Does not notice that it is cancelled.
                await Task.detached { try? await stuck.passed() }.value
            }
        ) { app in
            try await app.pool.withChannel { _ = try await $0.declareQueue("dead", durable: true) }
            try await app.publish("hang", "a", "b", "c")
            try await handled.wait(for: 3)
            try await eventually("the dead letter") { try await messages(in: "dead", app) == 1 }
            stuck.open()
        }
        #expect(begun.values.count == 2)
    }

    @Test("Settings that cannot be meant are refused when it starts, by name")
    func settings() async throws {
        let changes: [(String, @Sendable (inout ConsumerConfiguration) -> Void)] = [
            ("retryBackoff", { $0.retryBackoff = Backoff(minimum: .seconds(2), maximum: .seconds(1)) }),
            ("retryBackoff", { $0.retryBackoff.factor = .nan }),
            ("reopenBackoff", { $0.reopenBackoff.jitter = -1 }),
            ("handlerTimeLimit", { $0.handlerTimeLimit = .zero }),
        ]
        for (name, change) in changes {
            var configuration = ConsumerConfiguration()
            change(&configuration)
            let pool = AMQPPool(endpoints: [Endpoint(host: "127.0.0.1", port: 1)])
            let root = Supervisor("app", intensity: RestartIntensity(0, within: .seconds(1))) { [configuration] in
                Child.consumer("consumer", of: "q", on: pool, configuration: configuration, handler: { _ in })
            }
            do {
                try await within(.seconds(60)) { try await root.run() }
                Issue.record("ended without an error")
            } catch {
                #expect("\(error)".contains(name))
            }
        }
    }

    @Test("A broker that does not answer about the queue is asked again on another channel")
    func declareNotAnswered() async throws {
        let peer = try await ScriptedPeer.start()
        peer.answersHeartbeats.store(true, ordering: .relaxed)
        var settings = PoolConfiguration(endpoints: [peer.endpoint])
        settings.connections = 1
        settings.connection.operationTimeout = .milliseconds(200)
        let pool = AMQPPool(configuration: settings)
        let root = Supervisor("app", intensity: RestartIntensity(1000, within: .seconds(1))) {
            pool.supervisor
            Child.consumer("consumer", of: "q", on: pool, configuration: RunningConsumer.quick()) { channel in
                try await channel.declareQueue("q", durable: true)
            } handler: { _ in
            }
        }
        try await root.start()
        try await peer.greet()
        // Whatever channels are opened: those that declare are never answered.
        let answered = Mutex<Set<UInt16>>([])
        try await eventually("the declaration is tried on three channels") {
            let frames = peer.received.values
            let opening = frames.compactMap { frame -> UInt16? in
                if case .method(let channel, .channelOpen) = frame { channel } else { nil }
            }
            for channel in opening where answered.withLock({ $0.insert(channel).inserted }) {
                try await peer.send(.channelOpenOK, channel: channel)
            }
            let declaring = Set(
                frames.compactMap { frame -> UInt16? in
                    if case .method(let channel, .queueDeclare) = frame { channel } else { nil }
                }
            )
            return declaring.count >= 3
        }
        await peer.stop()
        await root.stop()
    }

    @Test("What was not tried is given back by nack, and what failed by reject")
    func nackOrReject() async throws {
        let peer = try await ScriptedPeer.start()
        let pool = AMQPPool(endpoints: [peer.endpoint], connections: 1)
        try await pool.start()
        try await peer.greet()
        let opened = Task {
            try await pool.withDedicatedChannel(timeout: .seconds(60)) {
                $0.giveBack(7); $0.reject(8, requeue: true)
            }
        }
        let answered = Mutex<Set<UInt16>>([])
        try await eventually("both are sent") {
            let frames = peer.received.values
            for frame in frames {
                guard case .method(let channel, let method) = frame else { continue }
                if case .channelOpen = method, answered.withLock({ $0.insert(channel).inserted }) {
                    try await peer.send(.channelOpenOK, channel: channel)
                }
            }
            let methods = frames.compactMap { if case .method(_, let method) = $0 { method } else { nil } }
            let isNacked = methods.contains {
                if case .basicNack(deliveryTag: 7, multiple: false, requeue: true) = $0 { true } else { false }
            }
            let isRejected = methods.contains {
                if case .basicReject(deliveryTag: 8, requeue: true) = $0 { true } else { false }
            }
            return isNacked && isRejected
        }
        await peer.stop()
        await pool.stop()
        _ = try? await opened.value
    }
}
