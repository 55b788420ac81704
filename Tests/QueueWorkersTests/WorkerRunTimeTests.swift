import AMQPPool
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
            await worker.add("refunds")
            await worker.add("refunds")
            try await shop.publish(Order(number: 2), to: "refunds")
            try await eventually("it works on both") { handled.values == ["1 of orders", "2 of refunds"] }
            #expect(await worker.queues == ["orders", "refunds"])
            #expect(events.values == ["consuming orders", "consuming refunds"])

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

            await worker.add("refunds")
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

/// Holds up whoever waits until it is opened.
private final class Gate: Sendable {
    private let (stream, continuation) = AsyncStream.makeStream(of: Void.self)

    func wait() async { for await _ in stream { return } }

    func open() { continuation.finish() }
}
