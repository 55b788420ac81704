import AMQPPool
import BrokerSupport
import LocalBroker
import NIOCore
import QueueWorkers
import RPCContract
import Supervision
import SupervisionTesting
import Testing

@Suite("A worker that runs", .timeLimit(.minutes(5)))
struct WorkerRunTimeTests {
    @Test("works on more queues, and on fewer, and is as it was made when it is restarted")
    func queues() async throws {
        let handled = Record<String>()
        let events = Record<String>()
        var configuration = WorkerConfiguration()
        configuration.concurrency = 1
        configuration.prefetch = 5
        configuration.onEvent = { event in
            switch event {
            case .consuming(let queue): events.append("consuming \(queue)")
            case .removed(let queue): events.append("removed \(queue)")
            default: break
            }
        }
        let gate = Gate()
        try await Shop.run { [configuration] pool in
            Child.worker(of: Order.self, from: "orders", on: pool, configuration: configuration) { order, context in
                handled.append("\(order.number) of \(context.queue)")
                if order.number == 10 { await gate.wait() }
            }
        } _: { shop in
            try await shop.publish(Order(number: 1))
            try await eventually("it works") { handled.values == ["1 of orders"] }
            let worker = try shop.root.child("orders", as: QueueWorker.self).resolve()
            try await worker.add("refunds")
            try await worker.add("refunds")
            try await shop.publish(Order(number: 2), to: "refunds")
            try await eventually("it works on both") { handled.values == ["1 of orders", "2 of refunds"] }
            #expect(await worker.queues == ["orders", "refunds"])
            // More than once, where a broker under load closes the connection meanwhile.
            #expect(Set(events.values) == ["consuming orders", "consuming refunds"])

            // One runs, and two wait behind it.
            try await shop.publish(Order(number: 10), Order(number: 11), Order(number: 12), to: "refunds")
            try await eventually("it is handling") { handled.values.last == "10 of refunds" }
            try await eventually("it has all three") { await worker.unsettled == 3 }
            async let removal: Void = worker.remove("refunds")
            try await eventually("what was not begun is given back") { await worker.unsettled == 1 }
            gate.open()
            await removal
            #expect(await worker.queues == ["orders"])
            try await shop.wait(for: 2, in: "refunds")
            try await eventually("it says so") { events.values.last == "removed refunds" }
            try await shop.publish(Order(number: 3))
            try await eventually("it works on the other") { handled.values.last == "3 of orders" }

            try await worker.add("refunds")
            try await eventually("it works on it again") {
                Set(handled.values).isSuperset(of: ["11 of refunds", "12 of refunds"])
            }
            try LiveTree(shop.root).end("shop/orders", by: .kill)
            try await shop.publish(Order(number: 4))
            try await eventually("it works anew") { handled.values.contains("4 of orders") }
            let next = try shop.root.child("orders", as: QueueWorker.self).resolve()
            #expect(await next.queues == ["orders"])
        }
        #expect(handled.values.count { $0 == "11 of refunds" } == 1)
    }

    @Test("of several queues has one limit for all of them, and says what each does")
    func several() async throws {
        let events = Record<String>()
        var configuration = WorkerConfiguration()
        configuration.onEvent = { event in
            switch event {
            case .consuming(let queue): events.append("consuming \(queue)")
            case .paused(for: nil): events.append("paused")
            case .resumed: events.append("resumed")
            case .idle: events.append("idle")
            default: break
            }
        }
        let handled = Record<String>()
        try await Shop.run { [configuration] pool in
            Child.worker(
                from: ["a", "b"],
                on: pool,
                codec: BytesCodec(contentType: "application/json", acceptsAnyType: true),
                configuration: configuration
            ) { bytes, context in
                handled.append("\(String(buffer: bytes)) of \(context.queue)")
            }
        } _: { shop in
            try await eventually("it consumes both") { events.values.sorted() == ["consuming a", "consuming b"] }
            for queue in ["a", "b"] { try await shop.publish(Order(number: 1), to: queue) }
            try await eventually("it works on both") { handled.values.count == 2 }
            try await eventually("it is idle") { events.values.contains("idle") }
            let worker = try shop.root.child("a", as: QueueWorker.self).resolve()
            await worker.pause()
            await worker.resume()
            try await eventually("it says so") {
                events.values.filter { ["paused", "resumed"].contains($0) } == ["paused", "resumed"]
            }
        }
    }

    @Test("has a prefetch that follows its concurrency, unless it was set, and refuses what cannot be meant")
    func prefetch() async throws {
        try await Shop.run { pool in
            Child.worker(of: Order.self, from: "orders", on: pool) { _, _ in }
            Child.batchWorker(of: Order.self, from: "batches", on: pool, size: 10, within: .seconds(1)) { _ in }
        } _: { shop in
            @Sendable
            func prefetch(_ queue: String, becomes expected: Int) async throws {
                try await eventually("the prefetch of \(queue) is \(expected)") {
                    try await shop.broker.consumers(virtualHost: shop.virtualHost)
                        .filter { $0.queue == queue }.map(\.prefetch) == [expected]
                }
            }
            let worker = try shop.root.child("orders", as: QueueWorker.self).resolve()
            let batches = try shop.root.child("batches", as: QueueWorker.self).resolve()
            try await prefetch("orders", becomes: 10)
            try await worker.setConcurrency(50)
            try await prefetch("orders", becomes: 50)
            try await batches.setConcurrency(3)
            try await prefetch("batches", becomes: 30)
            try await worker.setPrefetch(7)
            try await worker.setConcurrency(20)
            try await prefetch("orders", becomes: 7)
            try await worker.setPrefetch(nil)
            try await prefetch("orders", becomes: 20)
            for concurrency in [0, -1] {
                await #expect(throws: WorkerError.self) { try await worker.setConcurrency(concurrency) }
            }
            await #expect(throws: WorkerError.self) { try await worker.setPrefetch(0) }
            await #expect(throws: WorkerError.self, "no batch would be full") { try await batches.setPrefetch(9) }
            await #expect(throws: WorkerError.self) { try await worker.add("") }
            try await prefetch("orders", becomes: 20)
        }
    }

    @Test("goes on consuming however fast it is changed, paused and resumed", arguments: [false, true])
    func changedInARow(_ pauses: Bool) async throws {
        let handled = Record<Int>()
        try await Shop.run { pool in
            Child.worker(of: Order.self, from: "orders", on: pool) { order, _ in handled.append(order.number) }
        } _: { shop in
            try await shop.publish(Order(number: 0))
            let worker = try shop.root.child("orders", as: QueueWorker.self).resolve()
            for number in 1...20 {
                try await worker.setPrefetch(UInt16(number))
                if pauses {
                    await worker.pause()
                    await worker.resume()
                }
                // Each time it is somewhere else in consuming again.
                for _ in 0..<number * 7 { await Task.yield() }
            }
            try await eventually("it consumes with what was set last") {
                try await shop.broker.consumers(virtualHost: shop.virtualHost).map(\.prefetch) == [20]
            }
            try await shop.publish(Order(number: 1))
            try await eventually("it works") { handled.values == [0, 1] }
        }
    }

    @Test("is ready when all the queues are consumed that it has now")
    func readiness() async throws {
        var configuration = WorkerConfiguration()
        configuration.declares = .nothing
        try await Shop.run { [configuration] pool in
            Child.worker(of: Order.self, from: "orders", on: pool, retry: .never(), configuration: configuration) {
                _,
                _ in
            }
        } _: { shop in
            let worker = try shop.root.child("orders", as: QueueWorker.self).resolve()
            try await eventually("it consumes") { worker.state == .consuming }
            try await worker.add("refunds")
            try await eventually("one is missing") {
                if case .waiting = worker.state { worker.health.why?.contains("1 of 2 queues") == true } else { false }
            }
            await worker.remove("refunds")
            try await eventually("it has what it needs") { worker.isReady }
            await worker.remove("orders")
            #expect(worker.state == .waiting, "it has no queue")
        } prepare: { pool in
            try await pool.withDedicatedChannel(timeout: .seconds(60)) { channel in
                for queue in ["orders", "orders.failed"] {
                    _ = try await channel.declareQueue(queue, durable: true)
                }
            }
        }
    }

    @Test("declares its queues again that somebody deletes while it runs, and loses nothing meanwhile")
    func deletedQueues() async throws {
        struct Late: DecidingError {
            let failureDecision = FailureDecision.retryAfter(.seconds(2))
        }
        try await Shop.run { pool in
            Child.worker(
                from: "orders",
                on: pool,
                retry: .after([.seconds(1)]),
                handlers: [
                    .json(Order.self, type: "order") { _, _ in throw Broken() },
                    .json(Order.self, type: "late") { _, context in if context.attempt == 1 { throw Late() } },
                ]
            )
        } _: { shop in
            let publish = { @Sendable (type: String) in
                let properties = MessageProperties(
                    contentType: "application/json",
                    deliveryMode: .persistent,
                    type: type
                )
                try await shop.publish(text: #"{"number":1,"customer":"ann"}"#, properties)
            }
            try await eventually("orders is consumed") {
                try await shop.broker.consumers(virtualHost: shop.virtualHost).contains { $0.queue == "orders" }
            }
            for queue in Self.besideOrders {
                try await shop.pool.withDedicatedChannel { _ = try await $0.deleteQueue(queue) }
            }
            for type in ["order", "late", "unknown"] { try await publish(type) }
            try await shop.wait(for: 1, in: "orders.failed")
            try await shop.wait(for: 1, in: "orders.unhandled")
            try await eventually("the late one is done") {
                let queues = try await shop.broker.queues(virtualHost: shop.virtualHost)
                let left = queues.filter { $0.name == "orders" || $0.name.contains(".retry.") }
                return left.count == 3 && left.allSatisfy { $0.messages == 0 }
            }
        } prepare: { pool in
            // Not as the worker declares them: a quorum queue that is declared while one of its name is being deleted can leave RabbitMQ 3.10
            // without any quorum queue that works.
            try await pool.withDedicatedChannel(timeout: .seconds(60)) { channel in
                for queue in Self.besideOrders { _ = try await channel.declareQueue(queue, durable: true) }
            }
        }
    }

    private static let besideOrders = ["orders.failed", "orders.retry.1000", "orders.retry.2000", "orders.unhandled"]

    @Test("says what is wrong with what it is made of, and does not run", arguments: Mistake.all)
    func mistakes(_ mistake: Mistake) async throws {
        let pool = AMQPPool(endpoints: [try Endpoint(url: "amqp://127.0.0.1:1")])
        let root = Supervisor("shop", intensity: RestartIntensity(0, within: .seconds(1))) { mistake.child(pool) }
        await #expect {
            try await root.run()
        } throws: { error in
            "\(error)".contains(mistake.text)
        }
    }

    @Test("through a stream handles each message once, however often it is changed, paused and resumed meanwhile")
    func changedStream() async throws {
        let handled = Record<Int>()
        let gate = Gate()
        var configuration = WorkerConfiguration()
        configuration.queueType = .stream
        configuration.prefetch = 5
        configuration.arguments.streamOffset = .first
        try await Shop.run { [configuration] pool in
            Child.worker(
                of: Order.self,
                from: "log",
                on: pool,
                configuration: configuration,
                orderedBy: { $0.customer }
            ) {
                order,
                context in
                if order.number == 0 { await gate.wait() }
                handled.append(order.number * 10 + context.attempt)
            }
        } _: { shop in
            for number in 0..<10 { try await shop.pool.publish(Order(number: number), to: "log") }
            let worker = try shop.root.child("log", as: QueueWorker.self).resolve()
            try await eventually("it has as many as it may") { await worker.unsettled == 5 }
            await worker.pause()
            try await worker.setPrefetch(6)
            await worker.resume()
            // What it has does not count against the prefetch of its next consumer.
            try await eventually("it consumes again") { await worker.unsettled > 5 }
            try await worker.setPrefetch(7)
            gate.open()
            try await eventually("all are handled") {
                handled.values.count >= 10 && worker.look().deliveries.unsettled == 0
            }
        } prepare: { pool in
            try await pool.withDedicatedChannel(timeout: .seconds(60)) {
                _ = try await $0.declareQueue("log", arguments: QueueArguments(type: .stream))
            }
        }
        #expect(handled.values == (0..<10).map { $0 * 10 + 1 })
    }

    @Test(
        "through a stream goes on where its user has kept it, after failures and a crash, and tells it nothing that it does not know"
    )
    func stream() async throws {
        let offsets = Record<Int64>()
        let handled = Record<Int>()
        let interruptions = Record<String>()
        var configuration = WorkerConfiguration()
        configuration.queueType = .stream
        configuration.concurrency = 1
        configuration.prefetch = 5
        configuration.streamStart = { offsets.values.last.map { .offset($0) } ?? .first }
        configuration.onStreamOffset = { offsets.append($0) }
        configuration.onEvent = { event in
            switch event {
            case .interrupted(_, let reason), .missing(_, let reason): interruptions.append(reason)
            default: break
            }
        }
        try await Shop.run { [configuration] pool in
            Child.worker(
                of: Order.self,
                from: "log",
                on: pool,
                retry: .after([.milliseconds(10)], then: .park),
                configuration: configuration
            ) { order, context in
                if order.number == 3, context.attempt == 1 { throw Broken() }
                if order.number == 5 { throw Broken() }
                handled.append(order.number)
            }
        } _: { shop in
            for number in 0..<10 { try await shop.pool.publish(Order(number: number), to: "log") }
            let first = (0..<10).filter { $0 != 5 }
            try await eventually("all are handled") { handled.values.sorted() == first }
            try await eventually("the offset is told") { offsets.values.last == 10 }
            try LiveTree(shop.root).end("shop/log", by: .kill)
            for number in 10..<20 { try await shop.pool.publish(Order(number: number), to: "log") }
            try await eventually("it goes on where it was") {
                handled.values.sorted() == first + Array(10..<20)
            }
            try await shop.wait(for: 1, in: "log.failed")
            #expect(interruptions.values == [], "a stream ends a connection that tells it what it does not know")
            #expect(offsets.values == offsets.values.sorted())
        } prepare: { pool in
            try await pool.withDedicatedChannel(timeout: .seconds(60)) {
                _ = try await $0.declareQueue("log", arguments: QueueArguments(type: .stream))
            }
        }
    }
}

/// A worker that cannot be meant, and what is said of it.
struct Mistake: Sendable, CustomTestStringConvertible {
    let text: String
    let child: @Sendable (AMQPPool) -> Child

    var testDescription: String { text }

    private init(_ text: String, _ child: @escaping @Sendable (AMQPPool) -> Child) {
        self.text = text
        self.child = child
    }

    private static func setting(
        _ text: String,
        retry: WorkerRetry = .standard,
        _ change: @escaping @Sendable (inout WorkerConfiguration) -> Void = { _ in }
    ) -> Mistake {
        Mistake(text) { pool in
            var configuration = WorkerConfiguration()
            change(&configuration)
            return Child.worker(of: Order.self, from: "orders", on: pool, retry: retry, configuration: configuration) {
                _,
                _ in
            }
        }
    }

    private static func batch(
        _ text: String,
        size: Int = 10,
        within time: Duration = .seconds(1),
        prefetch: UInt16? = nil
    ) -> Mistake {
        Mistake(text) { pool in
            var configuration = WorkerConfiguration()
            configuration.prefetch = prefetch
            return Child.batchWorker(
                of: Order.self,
                from: "orders",
                on: pool,
                size: size,
                within: time,
                configuration: configuration
            ) { _ in }
        }
    }

    private static func queues(_ text: String, _ queues: [String]) -> Mistake {
        Mistake(text) {
            Child.worker("worker", from: queues, on: $0, codec: BytesCodec()) { (_: ByteBuffer, _: WorkerContext) in }
        }
    }

    private static func handlers(_ text: String, _ types: [String]) -> Mistake {
        Mistake(text) { pool in
            Child.worker(from: "orders", on: pool, handlers: types.map { .json(Order.self, type: $0) { _, _ in } })
        }
    }

    private static let badBackoff = Backoff(minimum: .seconds(-1), maximum: .seconds(1))

    static let all: [Mistake] = [
        setting("concurrency must be at least 1, not 0") { $0.concurrency = 0 },
        setting("prefetch must be at least 1") { $0.prefetch = 0 },
        setting("handlerTimeLimit") { $0.handlerTimeLimit = .zero },
        setting("drainTimeout") { $0.drainTimeout = .seconds(-1) },
        setting("deliveryLimit must be at least 1, not 0") { $0.deliveryLimit = 0 },
        setting("a rate must be at least one message, not 0") { $0.rate = DeliveryRate(0, in: .seconds(1)) },
        setting("a kill switch's share") { $0.killSwitch = KillSwitch(share: 0) },
        setting("must be at least 1, not 0") { $0.deduplication = WorkerDeduplication(maximumEntries: 0) },
        setting("retry has a pause of -1.0 seconds", retry: .after([.seconds(-1)])),
        setting("retry has -1 attempts at once", retry: .after([], immediately: -1)),
        setting("retry has 0 attempts; possible are 1 to 100", retry: .backoff(Backoff(), attempts: 0)),
        setting("the backoff of retry", retry: .backoff(badBackoff, attempts: 3)),
        batch("size must be from 1 to 65535 messages, not 0", size: 0),
        batch("size must be from 1 to 65535 messages, not 65536", size: 65536),
        batch("within must not be negative", within: .seconds(-1)),
        batch("with a prefetch of 9 no batch ever has 10 messages", prefetch: 9),
        queues("a worker needs a queue: from is empty", []),
        queues("a queue needs a name", ["orders", ""]),
        queues(
            "the name of a worker's queue has at most 238 bytes, and this one 239",
            [String(repeating: "q", count: 239)]
        ),
        handlers("a worker needs a handler: handlers is empty", []),
        handlers("more than one for the type order", ["order", "refund", "order"]),
    ]
}
