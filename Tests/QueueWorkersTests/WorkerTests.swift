import AMQPPool
import BrokerSupport
import LocalBroker
import NIOCore
import QueueWorkers
import Supervision
import SupervisionTesting
import Testing

@Suite("A worker")
struct WorkerTests {
    @Test("declares its queues, handles what is published to them, and acknowledges it")
    func handles() async throws {
        let handled = Record<Int>()
        try await Shop.run { pool in
            Child.worker(of: Order.self, from: "orders", on: pool) { order, context in
                #expect(context.attempt == 1)
                #expect(context.messageID != nil)
                handled.append(order.number)
            }
        } _: { shop in
            try await shop.publish(Order(number: 1), Order(number: 2), Order(number: 3))
            try await eventually("all are handled") { handled.values.count == 3 }
            try await eventually("and acknowledged") { try await shop.messages(in: "orders") == 0 }
            let names = Set(try await shop.broker.queues(virtualHost: shop.virtualHost).map(\.name))
            #expect(
                names == [
                    "orders", "orders.failed", "orders.retry.10000", "orders.retry.60000", "orders.retry.600000",
                ]
            )
        }
        #expect(Set(handled.values) == [1, 2, 3])
    }

    @Test("tries a message again after each pause, by way of the broker, and then parks it with the reason")
    func retriesAndParks() async throws {
        let attempts = Record<Int>()
        let arrivals = Record<UInt64>()
        try await Shop.run { pool in
            Child.worker(
                of: Order.self,
                from: "orders",
                on: pool,
                retry: .after([.seconds(1), .milliseconds(10), .seconds(1)], then: .park)
            ) { order, context in
                attempts.append(context.attempt)
                arrivals.append(context.firstArrival)
                throw Broken()
            }
        } _: { shop in
            try await shop.publish(Order(number: 7), id: "seven")
            try await eventually("it is parked") { try await shop.messages(in: "orders.failed") == 1 }
            let parked = try #require(try await shop.take(from: "orders.failed"))
            #expect(String(buffer: parked.body) == #"{"customer":"ann","number":7}"#)
            #expect(parked.properties.messageID == "seven")
            let headers = parked.properties.headers
            #expect(headers["attempts"] == .int64(4))
            #expect(headers["failure-queue"] == "orders")
            #expect(headers["failure-routing-key"] == "orders")
            #expect(headers["failure-reason"] == "Broken()")
            #expect(headers["failure-type"] == "Broken")
            #expect(headers["failure-time"] != nil)
            #expect(headers["first-arrival"] != nil)
            try await shop.wait(for: 0, in: "orders")
            try await shop.wait(for: 0, in: "orders.retry.1000")
        }
        #expect(attempts.values == [1, 2, 3, 4])
        #expect(Set(arrivals.values).count == 1)
    }

    @Test("parks what cannot be decoded, and what has another content type, at once")
    func undecodable() async throws {
        try await Shop.run { pool in
            Child.worker(of: Order.self, from: "orders", on: pool) { _, _ in }
        } _: { shop in
            try await shop.publish(Order(number: 1))
            for (text, type) in [("nonsense", nil), ("{}", "application/json"), ("{\"number\":1}", "text/csv")] {
                try await shop.publish(text: text, MessageProperties(contentType: type))
            }
            try await eventually("they are parked") { try await shop.messages(in: "orders.failed") == 3 }
            try await shop.wait(for: 0, in: "orders")
        }
    }

    @Test("parks a message whose headers leave no room for what is noted, with what it came with", arguments: [0, 5])
    func largeHeaders(_ pause: Int) async throws {
        try await Shop.run { pool in
            Child.worker(of: Order.self, from: "orders", on: pool, retry: .after([.seconds(pause)])) { _, _ in
                throw Broken()
            }
        } _: { shop in
            // With it the headers are nearly as large as a frame.
            let text = String(repeating: "x", count: 130_900)
            let properties = MessageProperties(contentType: "application/json", headers: ["large": .string(text)])
            try await shop.publish(text: "{\"number\":1,\"customer\":\"ann\"}", properties)
            try await eventually("it is parked") { try await shop.messages(in: "orders.failed") == 1 }
            let parked = try #require(try await shop.take(from: "orders.failed"))
            #expect(parked.properties.headers["large"] == .string(text))
            try await shop.wait(for: 0, in: "orders")
        }
    }

    @Test("does not let a flood of messages that cannot be read or handled fill the log")
    func flood() async throws {
        let lines = CountedLines()
        try await Shop.run(logger: lines.logger) { pool in
            Child.worker(of: Order.self, from: "orders", on: pool, retry: .after([.milliseconds(1)])) { _, _ in
                throw Broken()
            }
        } _: { shop in
            for number in 0..<100 {
                try await shop.publish(text: "nonsense", MessageProperties())
                try await shop.publish(text: "{\"number\":\(number),\"customer\":\"x\"}", MessageProperties())
            }
            try await eventually("they are parked") { try await shop.messages(in: "orders.failed") == 200 }
        }
        // Besides what is said of the tree; more than ten of a kind where it took longer than ten seconds.
        #expect(lines.count < 150, "\(lines.count)")
    }

    private enum Verdict: Error, DecidingError {
        case later, now, park, reject, discard

        var failureDecision: FailureDecision {
            switch self {
            case .later: .retryAfter(.milliseconds(700))
            case .now: .retryNow
            case .park: .park
            case .reject: .reject
            case .discard: .discard
            }
        }
    }

    @Test("does with a message what its error says")
    func decisions() async throws {
        let tried = Record<Int>()
        try await Shop.run { pool in
            Child.worker(of: Order.self, from: "orders", on: pool, retry: .never()) { order, context in
                tried.append(order.number)
                guard context.attempt == 1 else { return }
                switch order.number {
                case 1: throw Verdict.later
                case 2: throw Verdict.now
                case 3: throw Verdict.park
                case 4: throw Verdict.reject
                default: throw Verdict.discard
                }
            }
        } _: { shop in
            for number in 1...5 { try await shop.publish(Order(number: number)) }
            try await eventually("two are kept") { try await shop.messages(in: "orders.failed") == 2 }
            try await eventually("the others are done") { try await shop.messages(in: "orders") == 0 }
            try await eventually("two were tried again") { tried.values.count == 7 }
        }
        #expect(tried.values.sorted() == [1, 1, 2, 2, 3, 4, 5])
    }

    @Test("decides about errors of others by a rule")
    func rule() async throws {
        var configuration = WorkerConfiguration()
        configuration.onFailure = { error, _ in error is Broken ? .discard : nil }
        let tried = Record<Int>()
        try await Shop.run { [configuration] pool in
            Child.worker(of: Order.self, from: "orders", on: pool, configuration: configuration) { order, _ in
                tried.append(order.number)
                throw Broken()
            }
        } _: { shop in
            try await shop.publish(Order(number: 1))
            try await eventually("it is gone") { try await shop.messages(in: "orders") == 0 && tried.values.count == 1 }
            try await shop.wait(for: 0, in: "orders.failed")
        }
    }

    @Test("cancels a handler at its time limit, and parks a message whose handlers always hang; others are served")
    func hanging() async throws {
        var configuration = WorkerConfiguration()
        configuration.handlerTimeLimit = .milliseconds(500)
        configuration.concurrency = 2
        let handled = Record<Int>()
        let stuck = AsyncStream.makeStream(of: Void.self)
        try await Shop.run { [configuration] pool in
            Child.worker(
                of: Order.self,
                from: "orders",
                on: pool,
                retry: .after([.milliseconds(10)]),
                configuration: configuration
            ) { order, _ in
                if order.number == 0 { await Task.detached { for await _ in stuck.stream {} }.value }
                handled.append(order.number)
            }
        } _: { shop in
            try await shop.publish(Order(number: 0), Order(number: 1), Order(number: 2), Order(number: 3))
            try await eventually("the others are handled") { handled.values.count == 3 }
            try await eventually("it is parked") { try await shop.messages(in: "orders.failed") == 1 }
            let parked = try await shop.take(from: "orders.failed")
            #expect(parked?.properties.headers["failure-type"] == "WorkerError")
            stuck.continuation.finish()
        }
    }

    @Test("parks a message that ends the worker each time, by the broker's count, without running it once more")
    func killer() async throws {
        var configuration = WorkerConfiguration()
        configuration.deliveryLimit = 3
        let begun = Record<Int>()
        try await Shop.run { [configuration] pool in
            Child.worker(of: Order.self, from: "orders", on: pool, configuration: configuration) { order, _ in
                begun.append(order.number)
                try await Task.sleep(for: .seconds(600))
            }
        } _: { shop in
            try await shop.publish(Order(number: 1))
            for round in 1...3 {
                try await eventually("it runs") { begun.values.count == round }
                try LiveTree(shop.root).end("shop/orders", by: .kill)
            }
            try await eventually("it is parked") { try await shop.messages(in: "orders.failed") == 1 }
        }
        #expect(begun.values.count == 3)
    }

    @Test("publishes what its handler wants published when that has succeeded, and not when it has failed")
    func outbox() async throws {
        try await Shop.run { pool in
            Child.worker(of: Order.self, from: "orders", on: pool, retry: .after([.milliseconds(1)])) {
                order,
                context in
                try context.publish(Order(number: order.number * 10), to: "invoices")
                if context.attempt == 1 || order.number == 2 { throw Broken() }
            }
        } _: { shop in
            try await shop.broker.declareQueue("invoices", virtualHost: shop.virtualHost)
            try await shop.publish(Order(number: 1), Order(number: 2))
            try await eventually("the one is published") { try await shop.messages(in: "invoices") == 1 }
            try await eventually("the other is parked") { try await shop.messages(in: "orders.failed") == 1 }
            let invoice = try #require(try await shop.take(from: "invoices"))
            #expect(String(buffer: invoice.body).contains("10"))
            try await shop.wait(for: 0, in: "invoices")
        }
    }

    @Test("does not acknowledge a message whose handler published to a queue that is not there")
    func outboxFails() async throws {
        try await Shop.run { pool in
            Child.worker(of: Order.self, from: "orders", on: pool, retry: .never()) { order, context in
                try context.publish(order, to: "nowhere")
            }
        } _: { shop in
            try await shop.publish(Order(number: 1))
            try await eventually("it is parked") { try await shop.messages(in: "orders.failed") == 1 }
            let parked = try await shop.take(from: "orders.failed")
            guard case .string(let reason)? = parked?.properties.headers["failure-reason"] else {
                Issue.record("no reason")
                return
            }
            #expect(reason.contains("nowhere"))
        }
    }

    @Test("handles a message once that came twice under one id")
    func deduplication() async throws {
        var configuration = WorkerConfiguration()
        configuration.deduplication = WorkerDeduplication()
        let handled = Record<Int>()
        try await Shop.run { [configuration] pool in
            Child.worker(of: Order.self, from: "orders", on: pool, configuration: configuration) { order, _ in
                try await Task.sleep(for: .milliseconds(20))
                handled.append(order.number)
            }
        } _: { shop in
            for _ in 0..<5 { try await shop.publish(Order(number: 1), id: "one") }
            try await shop.publish(Order(number: 2), id: "two")
            try await eventually("all are acknowledged") {
                try await shop.messages(in: "orders") == 0 && handled.values.contains(2)
            }
        }
        #expect(handled.values.sorted() == [1, 2])
    }

    @Test("sets messages of a type aside that nobody handles")
    func types() async throws {
        let handled = Record<String>()
        try await Shop.run { pool in
            Child.worker(
                from: "orders",
                on: pool,
                handlers: [
                    .json(Order.self, type: "order") { order, _ in handled.append("order \(order.number)") },
                    .json(Int.self, type: "refund") { number, _ in handled.append("refund \(number)") },
                ]
            )
        } _: { shop in
            try await eventually("the queue is there") { try await shop.messages(in: "orders") != nil }
            for (type, text) in [("order", #"{"number":1,"customer":"a"}"#), ("refund", "2"), ("rocket", "3")] {
                try await shop.publish(text: text, MessageProperties(type: type))
            }
            try await eventually("two are handled") { handled.values.count == 2 }
            try await eventually("one is aside") { try await shop.messages(in: "orders.unhandled") == 1 }
        }
        #expect(Set(handled.values) == ["order 1", "refund 2"])
    }

    @Test("keeps the messages of a key in order, also over attempts, and handles keys side by side")
    func ordered() async throws {
        let handled = Record<Order>()
        try await Shop.run { pool in
            Child.worker(
                of: Order.self,
                from: "orders",
                on: pool,
                retry: .after([.milliseconds(5), .milliseconds(5)]),
                orderedBy: { $0.customer }
            ) { order, context in
                if order.number.isMultiple(of: 3), context.attempt < 3 { throw Broken() }
                await Task.yield()
                handled.append(order)
            }
        } _: { shop in
            for number in 0..<60 { try await shop.publish(Order(number: number, customer: "c\(number % 4)")) }
            try await eventually("all are handled") { handled.values.count == 60 }
        }
        for (_, orders) in Dictionary(grouping: handled.values, by: \.customer) {
            #expect(orders.map(\.number) == orders.map(\.number).sorted())
        }
    }

    @Test("handles batches, and settles each of their messages by itself")
    func batches() async throws {
        let sizes = Record<Int>()
        let handled = Record<Int>()
        try await Shop.run { pool in
            Child.batchWorker(
                of: Order.self,
                from: "orders",
                on: pool,
                size: 10,
                within: .milliseconds(100),
                retry: .never()
            ) { batch in
                sizes.append(batch.messages.count)
                for message in batch.messages {
                    if message.value.number == 13 {
                        batch.fail(message, with: Broken())
                    } else {
                        handled.append(message.value.number)
                    }
                }
            }
        } _: { shop in
            for number in 0..<25 { try await shop.publish(Order(number: number)) }
            try await eventually("one is parked") { try await shop.messages(in: "orders.failed") == 1 }
            try await eventually("the others are handled") { handled.values.count == 24 }
            try await eventually("and acknowledged") { try await shop.messages(in: "orders") == 0 }
        }
        #expect(sizes.values.allSatisfy { $0 <= 10 })
        #expect(sizes.values.reduce(0, +) == 25)
    }

    @Test("pauses, goes on, and changes its limits while it runs")
    func control() async throws {
        let handled = Record<Int>()
        try await Shop.run { pool in
            Child.worker(of: Order.self, from: "orders", on: pool) { order, _ in handled.append(order.number) }
        } _: { shop in
            try await shop.publish(Order(number: 1))
            try await eventually("it works") { handled.values == [1] }
            let worker = try shop.root.child("orders", as: QueueWorker.self).resolve()
            await worker.pause()
            try await eventually("it consumes nothing") {
                try await shop.broker.consumers(virtualHost: shop.virtualHost).isEmpty
            }
            try await shop.publish(Order(number: 2))
            #expect(handled.values == [1])
            try await worker.setPrefetch(3)
            try await worker.setConcurrency(3)
            await worker.resume()
            try await eventually("it goes on") { handled.values == [1, 2] }
            try await eventually("with the new prefetch") {
                try await shop.broker.consumers(virtualHost: shop.virtualHost).map(\.prefetch) == [3]
            }
            try await worker.setPrefetch(5)
            try await eventually("changed while it runs") {
                try await shop.broker.consumers(virtualHost: shop.virtualHost).map(\.prefetch) == [5]
            }
            try await shop.publish(Order(number: 3))
            try await eventually("it still works") { handled.values == [1, 2, 3] }
            await #expect(throws: WorkerError.self) { try await worker.setRate(DeliveryRate(0, in: .seconds(1))) }
        }
    }

    @Test("pauses when too many messages fail, in place of parking all of them")
    func killSwitch() async throws {
        var configuration = WorkerConfiguration()
        configuration.concurrency = 1
        configuration.killSwitch = KillSwitch(share: 0.9, minimum: 5, window: .seconds(60), pause: .seconds(600))
        let events = Record<String>()
        configuration.onEvent = { event in if case .paused = event { events.append("paused") } }
        try await Shop.run { [configuration] pool in
            Child.worker(of: Order.self, from: "orders", on: pool, retry: .never(), configuration: configuration) {
                _,
                _ in
                throw Broken()
            }
        } _: { shop in
            for number in 0..<20 { try await shop.publish(Order(number: number)) }
            try await eventually("it says so") { events.values == ["paused"] }
            try await eventually("what had failed is parked") { try await shop.messages(in: "orders.failed") == 5 }
            try await eventually("the others are left") { try await shop.messages(in: "orders") == 15 }
        }
    }

    @Test("that declares nothing says what is missing, and works as soon as that is there")
    func declaresNothing() async throws {
        var configuration = WorkerConfiguration()
        configuration.declares = .nothing
        let events = Record<String>()
        configuration.onEvent = { event in
            if case .missing("orders", let reason) = event { events.append(reason) }
        }
        let handled = Record<Int>()
        try await Shop.run { [configuration] pool in
            Child.worker(
                of: Order.self,
                from: "orders",
                on: pool,
                retry: .after([.seconds(10)]),
                configuration: configuration
            ) { order, _ in handled.append(order.number) }
        } _: { shop in
            try await eventually("it says what is missing") {
                events.values.contains { text in
                    ["orders", "orders.failed", "orders.retry.10000"].allSatisfy { text.contains($0) }
                }
            }
            #expect(try await shop.broker.queues(virtualHost: shop.virtualHost).isEmpty)
            for queue in ["orders.failed", "orders.retry.10000", "orders"] {
                try await shop.broker.declareQueue(queue, virtualHost: shop.virtualHost)
            }
            try await shop.publish(Order(number: 1))
            try await eventually("it works") { handled.values == [1] }
        }
    }

    @Test("takes a queue as it is that is there already")
    func existingQueue() async throws {
        let handled = Record<Int>()
        try await Shop.run { pool in
            Child.worker(of: Order.self, from: "orders", on: pool) { order, _ in handled.append(order.number) }
        } _: { shop in
            try await shop.publish(Order(number: 1))
            try await eventually("it works") { handled.values == [1] }
        } prepare: { pool in
            try await pool.withDedicatedChannel(timeout: .seconds(60)) {
                _ = try await $0.declareQueue("orders", durable: true, arguments: ["x-max-length": .int64(100)])
            }
        }
    }

    @Test("of events gets each once for its service, and each instance its own")
    func events() async throws {
        let services = Record<String>()
        let instances = Record<String>()
        try await Shop.run { pool in
            for name in ["billing-1", "billing-2"] {
                Child.subscriber(name, to: OrderPlaced.self, as: .service("billing"), on: pool) { event, _ in
                    services.append("\(event.number)")
                }
            }
            for name in ["one", "two"] {
                Child.subscriber(
                    "cache-\(name)",
                    to: OrderPlaced.self,
                    as: .instance(of: "cache", name: name),
                    on: pool
                ) { event, context in
                    instances.append("\(name) \(event.number) \(context.properties.type ?? "")")
                }
            }
        } _: { shop in
            try await eventually("all are bound") {
                // Each queue is bound to the default exchange, too.
                let names = try await shop.broker.bindings(virtualHost: shop.virtualHost)
                    .filter { $0.source == "events" }.map(\.destination)
                let consumed = try await shop.broker.consumers(virtualHost: shop.virtualHost)
                guard Set(consumed.map(\.queue)).count == 3 else { return false }
                return Set([
                    "billing.events.order.placed", "cache.events.order.placed.one", "cache.events.order.placed.two",
                ]).isSubset(of: names)
            }
            try await shop.pool.publish(OrderPlaced(number: 1))
            try await shop.pool.publish(OrderPlaced(number: 2))
            try await eventually("all have got it") {
                services.values.count == 2 && instances.values.count == 4
            }
        }
        #expect(services.values.sorted() == ["1", "2"])
        #expect(Set(instances.values).count == 4)
        #expect(instances.values.allSatisfy { $0.hasSuffix("order.placed") })
    }

    @Test("that is stopped gives back what it has not begun, or handles it", arguments: [false, true])
    func stop(_ finishes: Bool) async throws {
        var configuration = WorkerConfiguration()
        configuration.concurrency = 1
        configuration.prefetch = 5
        configuration.atStop = finishes ? .finish : .giveBack
        let begun = Record<Int>()
        let gate = AsyncStream.makeStream(of: Void.self)
        try await TestBroker.withVirtualHost { [configuration] broker, url, virtualHost in
            let pool = AMQPPool(endpoints: [try Endpoint(url: url)], connections: 1)
            let root = Supervisor("shop") {
                pool.supervisor
                Child.worker(of: Order.self, from: "orders", on: pool, configuration: configuration) { order, _ in
                    begun.append(order.number)
                    if order.number == 1 { for await _ in gate.stream {} }
                }
            }
            try await root.start()
            let shop = Shop(pool: pool, root: root, broker: broker, virtualHost: virtualHost)
            for number in 1...3 { try await shop.publish(Order(number: number)) }
            try await eventually("all are here") {
                try await broker.queue("orders", virtualHost: virtualHost)?.unacknowledged == 3
            }
            let stopping = Task { _ = await root.stop() }
            try await eventually("it consumes nothing") {
                try await broker.consumers(virtualHost: virtualHost).isEmpty
            }
            gate.continuation.finish()
            await stopping.value
            try await eventually("nothing else is left") {
                try await broker.queue("orders", virtualHost: virtualHost)?.messages == (finishes ? 0 : 2)
            }
        }
        #expect(begun.values == (finishes ? [1, 2, 3] : [1]))
    }
}

struct OrderPlaced: QueueEvent {
    static let eventName = "order.placed"
    var number: Int
}
