import AMQPPool
import BrokerSupport
import NIOCore
import QueueWorkers
import Supervision
import SupervisionTesting
import Testing

@Suite("A worker without a broker")
struct InProcessTests {
    @Test("handles what is delivered, with what its handler publishes")
    func handles() async throws {
        let worker = InProcessWorker(of: Order.self, from: "orders") { order, context in
            try context.publish(order, to: "invoices")
        }
        #expect(try await worker.deliver(Order(number: 1), id: "one") == .handled)
        #expect(worker.published.map(\.routingKey) == ["invoices"])
    }

    @Test("tries again by the same rules, and parks in the end")
    func retries() async throws {
        let attempts = Record<Int>()
        let worker = InProcessWorker(
            of: Order.self,
            from: "orders",
            retry: .after([.seconds(10), .zero, .seconds(60)])
        ) { _, context in
            attempts.append(context.attempt)
            throw Broken()
        }
        #expect(try await worker.deliver(Order(number: 1)) == .delayed(.seconds(10)))
        #expect(await worker.redeliver() == [.delayed(.seconds(60))])
        #expect(await worker.redeliver() == [.parked(reason: "Broken()")])
        #expect(await worker.redeliver() == [])
        #expect(attempts.values == [1, 2, 3, 4])
        #expect(worker.parked.count == 1)
    }

    @Test("cancels a handler when the clock says so, and parks what cannot be decoded")
    func limits() async throws {
        let clock = ManualClock()
        var configuration = WorkerConfiguration()
        configuration.handlerTimeLimit = .seconds(60)
        let begun = Record<Int>()
        let worker = InProcessWorker(
            of: Order.self,
            retry: .never(),
            configuration: configuration,
            clock: clock
        ) { order, _ in
            begun.append(order.number)
            try await Task.sleep(for: .seconds(3600))
        }
        async let outcome = worker.deliver(Order(number: 1))
        try await eventually("it runs") { begun.values == [1] }
        clock.advance(by: .seconds(60))
        #expect(try await outcome == .parked(reason: "not finished within 60.0 seconds"))
        guard case .parked(let reason) = await worker.deliver(ByteBuffer(string: "nonsense")) else {
            Issue.record("not parked")
            return
        }
        #expect(reason.hasPrefix("undecodable"))
    }

    @Test("makes batches when its clock says so")
    func batches() async throws {
        let clock = ManualClock()
        let sizes = Record<Int>()
        let worker = InProcessWorker(
            batchesOf: Order.self,
            size: 3,
            within: .seconds(5),
            retry: .never(),
            clock: clock
        ) { batch in
            sizes.append(batch.messages.count)
            for message in batch.messages where message.value.number == 2 { batch.fail(message, with: Broken()) }
        }
        async let first = worker.deliver(Order(number: 1))
        async let second = worker.deliver(Order(number: 2))
        try await eventually("both wait for a third") { clock.pendingTimers > 0 && worker.unsettled == 2 }
        clock.advance(by: .seconds(5))
        #expect(try await first == .handled)
        #expect(try await second == .parked(reason: "Broken()"))
        #expect(sizes.values == [2])
    }

    private struct Token: WorkerInterceptor {
        func intercept(_ context: WorkerContext, next: @Sendable () async throws -> Void) async throws {
            guard context.headers["token"] == "open sesame" else { throw Broken() }
            try await next()
        }
    }

    @Test("has the interceptors of a worker around each message")
    func interceptors() async throws {
        var configuration = WorkerConfiguration()
        configuration.interceptors = [Token()]
        let handled = Record<Int>()
        let worker = InProcessWorker(of: Order.self, retry: .never(), configuration: configuration) { order, _ in
            handled.append(order.number)
        }
        #expect(try await worker.deliver(Order(number: 1)) == .parked(reason: "Broken()"))
        #expect(try await worker.deliver(Order(number: 2), headers: ["token": "open sesame"]) == .handled)
        #expect(handled.values == [2])
    }

    @Test("has the interceptors around each message of a batch, which begins when the last has let its message pass")
    func batchInterceptors() async throws {
        var configuration = WorkerConfiguration()
        let events = Record<String>()
        configuration.interceptors = [Noting(events: events), Token()]
        let worker = InProcessWorker(
            batchesOf: Order.self,
            size: 4,
            within: .seconds(600),
            retry: .never(),
            configuration: configuration
        ) { batch in
            events.append("batch \(batch.messages.map(\.value.number).sorted())")
            for message in batch.messages where message.value.number == 3 { batch.fail(message, with: Broken()) }
        }
        let outcomes = try await withThrowingTaskGroup(of: (Int, InProcessWorker.Outcome).self) { group in
            for number in 1...4 {
                let token: FieldTable = number == 2 ? [:] : ["token": "open sesame"]
                group.addTask { (number, try await worker.deliver(Order(number: number), headers: token)) }
            }
            return try await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
        }
        #expect(outcomes[1] == .handled)
        #expect(outcomes[4] == .handled)
        #expect(outcomes[2] == .parked(reason: "Broken()"), "its interceptor refused it")
        #expect(outcomes[3] == .parked(reason: "Broken()"), "the batch failed it")
        let seen = events.values
        #expect(seen.count { $0 == "before" } == 4)
        #expect(seen.filter { $0.hasPrefix("batch") } == ["batch [1, 3, 4]"])
        #expect(seen.count { $0 == "failed" } == 2)
        #expect(seen.count { $0 == "succeeded" } == 2)
    }

    private struct Noting: WorkerInterceptor {
        let events: Record<String>

        func intercept(_ context: WorkerContext, next: @Sendable () async throws -> Void) async throws {
            events.append("before")
            do {
                try await next()
                events.append("succeeded")
            } catch {
                events.append("failed")
                throw error
            }
        }
    }
}
