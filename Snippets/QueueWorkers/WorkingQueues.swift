//! Workers: of one type, in order, in batches, of events; publishing; and a test without a broker.

import AMQPPool
import Foundation
import QueueWorkers
import Supervision

struct Order: Codable, Sendable {
    var number: Int
    var customer: String
}

// snippet.worker
let pool = AMQPPool(endpoints: ["amqp://guest:guest@127.0.0.1:5672"])

let shop = Supervisor("shop") {
    pool.supervisor
    Child.worker(
        of: Order.self,
        from: "orders",
        on: pool,
        retry: .after([.seconds(10), .minutes(1), .minutes(10)], then: .park)
    ) { order, context in
        try await ship(order)
        try context.publish(Invoice(order), to: "invoices")
    }
}
try await shop.run()
// snippet.end

// snippet.publish
try await pool.publish(Order(number: 42, customer: "ann"), to: "orders")
// snippet.end

// snippet.errors
enum OrderError: DecidingError {
    case unknownCustomer, warehouseClosed, alreadyShipped

    var failureDecision: FailureDecision {
        switch self {
        case .unknownCustomer: .park
        case .warehouseClosed: .retryAfter(.hours(1))
        case .alreadyShipped: .discard
        }
    }
}
// snippet.end

// snippet.settings
var configuration = WorkerConfiguration()
configuration.concurrency = 20
configuration.handlerTimeLimit = .seconds(30)
configuration.rate = DeliveryRate(100, in: .seconds(1))
configuration.killSwitch = KillSwitch(share: 0.5, minimum: 50)
configuration.deduplication = WorkerDeduplication()
configuration.onFailure = { error, _ in error is DecodingError ? .park : nil }
// snippet.end

// snippet.ordered
let ordered = Child.worker(of: Order.self, from: "orders", on: pool, orderedBy: { $0.customer }) { order, context in
    try await ship(order)
}
// snippet.end

// snippet.batches
let batches = Child.batchWorker(
    of: Order.self,
    from: "orders",
    on: pool,
    size: 100,
    within: .seconds(1)
) { batch in
    let refused = try await store(batch.messages.map(\.value))
    for message in batch.messages where refused.contains(message.value.number) {
        batch.fail(message, with: OrderError.unknownCustomer)
    }
}
// snippet.end

// snippet.events
struct OrderPlaced: QueueEvent {
    static let eventName = "order.placed"
    var number: Int
}

try await pool.publish(OrderPlaced(number: 42))

let billing = Child.subscriber(to: OrderPlaced.self, as: .service("billing"), on: pool) { event, context in
    try await bill(event)
}
// snippet.end

// snippet.control
let orders = try shop.child("orders", as: QueueWorker.self)
try await orders.call { worker in
    try await worker.setConcurrency(2)
    try worker.setRate(DeliveryRate(10, in: .seconds(1)))
    await worker.pause()
    worker.resume()
}
// snippet.end

// snippet.types
let mixed = Child.worker(
    from: "mixed",
    on: pool,
    handlers: [
        .json(Order.self, type: "order") { order, context in try await ship(order) },
        .json(OrderPlaced.self, type: "placed") { event, context in try await bill(event) },
    ]
)
// snippet.end

// snippet.test
let worker = InProcessWorker(of: Order.self, from: "orders", retry: .after([.seconds(10)])) { order, context in
    try await ship(order)
}
let outcome = try await worker.deliver(Order(number: 1, customer: "ann"))
print(outcome == .handled)
// snippet.end

// snippet.hide
_ = (ordered, batches, billing, mixed, configuration)
struct Invoice: Codable, Sendable {
    var number: Int
    init(_ order: Order) { number = order.number }
}
@Sendable
func ship(_ order: Order) async throws {}
@Sendable
func bill(_ event: OrderPlaced) async throws {}
@Sendable
func store(_ orders: [Order]) async throws -> Set<Int> { [] }
// snippet.show
