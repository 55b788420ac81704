import AMQPPool
import Logging
import NIOCore
import Supervision
import Testing

@testable import QueueWorkers

@Suite("What a worker decides")
struct WorkerPolicyTests {
    private func delivery(_ headers: FieldTable = [:], redelivered: Bool = false) -> Delivery {
        Delivery(
            consumerTag: "",
            deliveryTag: 1,
            redelivered: redelivered,
            exchange: "shop",
            routingKey: "order.placed",
            properties: MessageProperties(headers: headers, expiration: "1000", userID: "guest"),
            body: ByteBuffer(string: "{}")
        )
    }

    private static func deaths(_ queue: String) -> FieldValue {
        .array([.table(["queue": .string(queue), "reason": "expired", "count": .int64(1)])])
    }

    private func policy(
        _ retry: WorkerRetry,
        _ change: (inout WorkerConfiguration) -> Void = { _ in }
    ) -> WorkerPolicy {
        var configuration = WorkerConfiguration()
        change(&configuration)
        return WorkerPolicy(retry: retry, configuration: configuration, host: "here")
    }

    private func copy(_ disposition: Disposition) -> Forward? {
        if case .forward(let forward) = disposition { forward } else { nil }
    }

    private func decide(
        _ policy: WorkerPolicy,
        _ message: WorkerMessage,
        attempt: Int,
        _ error: any Error = Broken()
    ) -> Disposition {
        let context = WorkerContext.sample
        return policy.decide(message, attempt: attempt, error, context, now: 1000).disposition
    }

    @Test("A count of attempts is believed of a message that the broker says has waited in a delay queue")
    func attempts() {
        func failed(_ headers: FieldTable) -> Int {
            WorkerMessage(delivery(headers), from: "orders", .quorum, now: 1000).failedAttempts
        }
        #expect(failed([:]) == 0)
        #expect(failed(["attempts": .int64(3)]) == 0)
        #expect(failed(["attempts": .int64(3), "x-death": Self.deaths("orders.retry.10000")]) == 3)
        #expect(failed(["attempts": .int64(3), "x-death": Self.deaths("other")]) == 0)
        // What consumers wrote before there were workers.
        #expect(failed(["x-attempts": .int64(2)]) == 2)
        #expect(failed(["x-attempts": .int64(.max)]) == 0)
        #expect(failed(["x-attempts": .int64(100_000)]) == WorkerRetry.maximumAttempts)
    }

    @Test("Short pauses are waited for here, longer ones at the broker, and then the message is parked")
    func schedule() {
        let policy = policy(.after([.seconds(10)], immediately: 1))
        let message = WorkerMessage(delivery(["CC": .array(["copy"])]), from: "orders", .quorum, now: 1000)
        guard case .retry(after: .zero) = decide(policy, message, attempt: 1) else {
            Issue.record("not at once")
            return
        }
        let later = copy(decide(policy, message, attempt: 2))
        #expect(later?.routingKey == "orders.retry.10000")
        #expect(later?.properties.headers["attempts"] == .int64(2))
        #expect(later?.properties.headers["CC"] == nil)
        #expect(later?.properties.userID == nil)
        #expect(later?.properties.expiration == nil)
        let parked = copy(decide(policy, message, attempt: 3))
        #expect(parked?.routingKey == "orders.failed")
        #expect(parked?.properties.headers["failure-exchange"] == "shop")
        #expect(parked?.properties.headers["failure-routing-key"] == "order.placed")
        #expect(parked?.properties.headers["failure-time"] == .timestamp(1000))
        #expect(parked?.properties.headers["failure-host"] == "here")
    }

    @Test("A stream and a key that must stay in order are tried again here, whatever the pause")
    func here() {
        let policy = policy(.after([.seconds(10)]))
        let ordered = WorkerMessage(delivery(), from: "orders", .quorum, now: 1000, isOrdered: true)
        for message in [ordered, WorkerMessage(delivery(), from: "log", .stream, now: 1000)] {
            guard case .retry(after: .seconds(10)) = decide(policy, message, attempt: 1) else {
                Issue.record("not here")
                return
            }
        }
    }

    @Test("No error can have a message tried for ever")
    func bounded() {
        struct Always: DecidingError { let failureDecision: FailureDecision }
        let policy = policy(.standard)
        let message = WorkerMessage(delivery(), from: "orders", .quorum, now: 1000)
        for decision in [FailureDecision.retryNow, .retryAfter(.seconds(3))] {
            let last = decide(
                policy,
                message,
                attempt: WorkerRetry.maximumAttempts,
                Always(failureDecision: decision)
            )
            #expect(copy(last)?.routingKey == "orders.failed")
        }
        let asked = decide(policy, message, attempt: 1, Always(failureDecision: .retryAfter(.seconds(3))))
        #expect(copy(asked)?.routingKey == "orders.retry.5000")
        let scheduled = decide(policy, message, attempt: 1, Always(failureDecision: .retryAfter(.seconds(60))))
        #expect(copy(scheduled)?.routingKey == "orders.retry.60000")
    }

    @Test("A message that the broker has delivered too often is parked before it runs")
    func deliveries() {
        let policy = policy(.standard) { $0.deliveryLimit = 3 }
        func decide(_ count: Int64, _ type: QueueArguments.QueueType?) -> Disposition? {
            let message = WorkerMessage(
                delivery(["x-delivery-count": .int64(count)], redelivered: true),
                from: "orders",
                type,
                now: 1000
            )
            return policy.decide(arrived: message, now: 1000)
        }
        #expect(decide(2, .quorum) == nil)
        #expect(decide(3, .quorum).flatMap(copy)?.routingKey == "orders.failed")
        #expect(decide(3, nil).flatMap(copy)?.routingKey == "orders.failed")
        #expect(decide(3, .classic) == nil)
    }

    @Test("Reasons of any length fit, and pauses of any length have a queue")
    func extremes() {
        struct Long: Error, CustomStringConvertible { let description = String(repeating: "x", count: 100_000) }
        let message = WorkerMessage(delivery(), from: "orders", .quorum, now: 1000)
        let parked = copy(decide(policy(.never()), message, attempt: 1, Long()))
        #expect(parked?.properties.headers.text(.failureReason)?.count == MessageHeader.longestReason)
        #expect(DelayQueue.rounded(.milliseconds(1)) == .seconds(1))
        #expect(DelayQueue.rounded(.seconds(51)) == .seconds(100))
        #expect(DelayQueue.rounded(.seconds(Int64.max)) == DelayQueue.longest)
        #expect(DelayQueue(.seconds(Int64.max), of: "q").milliseconds == 4_294_967_000)
        for retry in [WorkerRetry.after([.seconds(-1)]), .after([.seconds(Int64.max)])] {
            #expect(WorkerConfiguration().problem(with: retry, batchSize: 1) != nil)
        }
        let growing = WorkerRetry.backoff(Backoff(minimum: .seconds(1), maximum: .seconds(4)), attempts: 5)
        #expect(growing.pauses == [.seconds(1), .seconds(2), .seconds(4), .seconds(4)])
    }
}

extension WorkerContext {
    static var sample: WorkerContext {
        let delivery = Delivery(
            consumerTag: "",
            deliveryTag: 1,
            redelivered: false,
            exchange: "",
            routingKey: "orders",
            properties: MessageProperties(),
            body: ByteBuffer()
        )
        let message = WorkerMessage(delivery, from: "orders", .quorum, now: 1000)
        return WorkerContext(message, attempt: 1, logger: Logger(label: "test"))
    }
}
