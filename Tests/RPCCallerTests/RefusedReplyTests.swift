import AMQPPool
import BrokerSupport
import LocalBroker
import NIOCore
import RPCCaller
import RPCReceiver
import Supervision
import Synchronization
import Testing

@Suite("A request for whose reply the broker closes the receiver's connection", .timeLimit(.minutes(10)))
struct RefusedReplyTests {
    @Test("with a forged direct reply_to is run once and given up, however many come; others are answered all the time")
    func forged() async throws {
        try await withServices { services in
            let connection = try await AMQPConnection.open(try Endpoint(url: services.url), logger: quiet)
            let channel = try await connection.openChannel()
            let runs = Mutex<[Int: Int]>([:])
            let receiver = RPCReceiver(service: "victim", endpoints: [try Endpoint(url: services.url)], logger: quiet) {
                RPCHandler("note") { (n: Int, _) in
                    runs.withLock { $0[n, default: 0] += 1 }
                    return n
                }
            }
            try await receiver.start()
            try await receiver.waitUntilReady(timeout: .seconds(90))
            let count = 20
            for n in 1...count {
                try await channel.publish(
                    .init(string: "\(n)"),
                    properties: MessageProperties(
                        headers: ["procedure": "note"],
                        correlationID: n % 2 == 0 ? "\(n)" : nil,
                        replyTo: "amq.rabbitmq.reply-to.x\(n).y"
                    ),
                    routingKey: "victim.rpcs",
                    mandatory: true
                )
                let answer: Int = try await services.rpc.call(
                    "victim",
                    "note",
                    1000 + n,
                    retry: .idempotent(attempts: 10)
                )
                #expect(answer == 1000 + n)
            }
            // RabbitMQ 4.2 and later take such a reply, and drop it.
            let isRefused = await services.broker.version < BrokerVersion(4, 2)
            try await eventually("each is given up") { receiver.counts.unanswerable == (isRefused ? count : 0) }
            try await eventually("nothing is left in the queue") {
                try await services.broker.queue("victim.rpcs", virtualHost: services.virtualHost)?.messages == 0
            }
            let forged = runs.withLock { runs in runs.filter { $0.key <= count } }
            #expect(forged.count == count)
            #expect(forged.values.allSatisfy { $0 == 1 }, "\(forged)")
            await connection.close()
            await receiver.stop()
        }
    }

    @Test("with a reply_to of any odd form is run once, and others are answered all the time")
    func oddForms() async throws {
        try await withServices { services in
            let connection = try await AMQPConnection.open(try Endpoint(url: services.url), logger: quiet)
            let channel = try await connection.openChannel()
            let runs = Mutex<[Int: Int]>([:])
            let receiver = RPCReceiver(service: "victim", endpoints: [try Endpoint(url: services.url)], logger: quiet) {
                RPCHandler("note") { (n: Int, _) in
                    runs.withLock { $0[n, default: 0] += 1 }
                    return n
                }
            }
            try await receiver.start()
            try await receiver.waitUntilReady(timeout: .seconds(90))
            let names = [
                "a\nb", "a\r", "amq.rabbitmq.reply-to.", "amq.rabbitmq.reply-to.g1h2AA==",
                "amq.gen-x", String(repeating: "x", count: 255), "victim", "no.such.queue", "\u{7f}", "é\u{301}",
                "amq.rabbitmq.reply-to.x.\n", "amq.rabbitmq.trace",
            ]
            for (n, name) in names.enumerated() {
                try await channel.publish(
                    .init(string: "\(n)"),
                    properties: MessageProperties(
                        headers: ["procedure": "note"],
                        correlationID: "\(n)",
                        replyTo: name
                    ),
                    routingKey: "victim.rpcs",
                    mandatory: true
                )
                let answer: Int = try await services.rpc.call(
                    "victim",
                    "note",
                    1000 + n,
                    retry: .idempotent(attempts: 10)
                )
                #expect(answer == 1000 + n)
            }
            try await eventually("nothing is left in the queue") {
                try await services.broker.queue("victim.rpcs", virtualHost: services.virtualHost)?.messages == 0
            }
            let odd = runs.withLock { runs in runs.filter { $0.key < 1000 } }
            #expect(odd.values.allSatisfy { $0 == 1 }, "\(odd)")
            await connection.close()
            await receiver.stop()
        }
    }

    @Test("because the node of its caller is gone is not run for ever")
    func nodeKilled() async throws {
        // Three: a majority is left, without which RabbitMQ 4 with Khepri declares nothing.
        try await TestBroker.withCluster { try await nodeKilled($0) }
    }

    private func nodeKilled(_ cluster: LocalBrokerCluster) async throws {
        let endpoints = try cluster.urls().map { try Endpoint(url: $0) }
        let gate = Gate()
        let runs = Counter()
        let receiver = RPCReceiver(service: "victim", endpoints: [endpoints[0]], logger: quiet) {
            RPCHandler("hold") { (n: Int, _) in
                runs.next()
                try await gate.pass()
                return n
            }
            RPCHandler("next") { (n: Int, _) in n + 1 }
        }
        try await receiver.start()
        try await receiver.waitUntilReady(timeout: .seconds(60))
        var configuration = RPCCallerConfiguration(endpoints: [endpoints[1]])
        configuration.replies = .direct
        let lost = RPCCaller(service: "lost", configuration: configuration, logger: quiet)
        try await lost.start()
        try await lost.waitUntilReady(timeout: .seconds(60))
        let call = Task {
            await outcome { () throws(RPCError) in
                try await lost.call("victim", "hold", 1, timeout: .seconds(300), as: Int.self)
            }
        }
        await gate.waitForArrivals(1)
        try await cluster.nodes[1].kill()
        // Until the others know it they send it the reply, which then gets lost as it would have with the caller.
        try await eventually("the others know that it is gone") { try await !cluster.running().contains(1) }
        gate.open()
        _ = await call.value
        let rpc = RPCCaller(service: "test", endpoints: [endpoints[0]], logger: quiet)
        try await rpc.start()
        // RabbitMQ 4 takes such a reply, and drops it.
        let isRefused = await cluster.nodes[0].version < BrokerVersion(4, 0)
        try await eventually(within: .seconds(120), "it is given up") {
            receiver.counts.unanswerable == (isRefused ? 1 : 0)
        }
        for n in 1...10 {
            let answer: Int = try await rpc.call(
                "victim",
                "next",
                n,
                timeout: .seconds(60),
                retry: .idempotent(attempts: 100)
            )
            #expect(answer == n + 1)
        }
        #expect(runs.value == 1)
        await rpc.stop()
        await lost.stop()
        await receiver.stop()
    }
}
