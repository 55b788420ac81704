import AMQPPool
import BrokerSupport
import LocalBroker
import QueueWorkers
import RPCWire
import Supervision
import Testing

private struct OrderPlaced: QueueEvent {
    static let eventName = "order.placed"
    var number: Int
}

/// `Python/event_service.py` was written from docs/wire-protocol.md, not from the library's code.
@Suite(
    "Another implementation of events and of workers' queues",
    .enabled(if: Program.interpreter != nil, "pika is missing: scripts/bootstrap --tests"),
    .timeLimit(.minutes(3))
)
struct ForeignEventTests {
    @Test("its events reach each service and each instance, it gets ours, and understands what is parked")
    func events() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let (handled, handling) = AsyncStream.makeStream(of: String.self)
            let pool = AMQPPool(endpoints: [try Endpoint(url: url)], connections: 1)
            let root = Supervisor("shop") {
                pool.supervisor
                Child.subscriber("billing", to: OrderPlaced.self, as: .service("billing"), on: pool) { event, context in
                    handling.yield("service \(event.number) attempt \(context.attempt)")
                }
                Child.subscriber("cache", to: OrderPlaced.self, as: .instance(of: "cache", name: "one"), on: pool) {
                    event,
                    _ in
                    handling.yield("instance \(event.number)")
                }
            }
            try await root.start()
            var seen = handled.makeAsyncIterator()
            try await whileRunning("event_service", ["python", "order.placed"], url: url) { program in
                // Each is bound when its queue is consumed.
                while Set(try await broker.consumers(virtualHost: virtualHost).map(\.queue)).count < 3 {
                    try await Task.sleep(for: .milliseconds(20))
                }
                func ask(_ command: JSONValue) async throws -> JSONValue {
                    try program.say("\(command)")
                    return try JSONValue(parsing: try await program.line())
                }
                try program.say("\(["publish": "order.placed", "body": #"{"number":1}"#] as JSONValue)")
                // It hears of its own event, too, before or after the confirm.
                let lines = [try await program.line(), try await program.line()]
                #expect(lines.contains("ok"))
                #expect(lines.contains { $0.contains(#""key": "order.placed""#) && $0.contains("number") })
                let ours = [await seen.next() ?? "", await seen.next() ?? ""]
                #expect(Set(ours) == ["service 1 attempt 1", "instance 1"])

                try await pool.publish(OrderPlaced(number: 2))
                guard case .object(let event) = try JSONValue(parsing: try await program.line()) else {
                    Issue.record("no event")
                    return
                }
                #expect(event["event"] == "order.placed")
                #expect(event["key"] == "order.placed")
                #expect(event["body"] == #"{"number":2}"#)
                #expect(event["id"] != .null)
                let both = [await seen.next() ?? "", await seen.next() ?? ""]
                #expect(Set(both) == ["service 2 attempt 1", "instance 2"])

                // What consumers wrote who counted attempts before there were workers.
                try program.say(
                    "\(["send": "billing.events.order.placed", "body": #"{"number":3}"#, "headers": ["x-attempts": 2]] as JSONValue)"
                )
                #expect(try await program.line() == "ok")
                #expect(await seen.next() == "service 3 attempt 3")

                try program.say("\(["send": "billing.events.order.placed", "body": "no number"] as JSONValue)")
                #expect(try await program.line() == "ok")
                var parked: JSONValue = .null
                while parked == .null { parked = try await ask(["take": "billing.events.order.placed.failed"]) }
                guard case .object(let message) = parked, case .object(let headers)? = message["headers"] else {
                    Issue.record("not parked: \(parked)")
                    return
                }
                #expect(message["body"] == "no number")
                #expect(headers["failure-queue"] == "billing.events.order.placed")
                #expect(headers["failure-reason"] != nil)
                #expect(headers["attempts"] == "1")
            }
            await root.stop()
        }
    }
}
