import AMQPPool
import BrokerSupport
import LocalBroker
import NIOCore
import RPCCaller
import RPCReceiver
import Testing

@Suite("Calls through a broker", .timeLimit(.minutes(2)))
struct CallTests {
    @Test("add(4, 9) is 13")
    func add() async throws {
        try await withServices { services in
            let sum: Int = try await services.rpc.call("math", "add", [4, 9])
            #expect(sum == 13)
            #expect(services.rpc.pendingCount == 0)
            let queues = try await services.replyQueues()
            #expect(queues.map(\.name) == [try services.replyQueueName()])
            let queue = try #require(queues.first)
            #expect(queue.consumers == 2)
            #expect(queue.durable)
            #expect(queue.autoDelete)
            #expect(queue.arguments["x-expires"] == .integer(60_000))
            let consumers = try await services.broker.consumers(virtualHost: services.virtualHost)
            #expect(consumers.filter { $0.queue == queue.name }.allSatisfy { $0.acknowledges && $0.prefetch == 256 })
            try await eventually("replies are acknowledged") {
                try await services.replyQueues().allSatisfy { $0.messages == 0 && $0.unacknowledged == 0 }
            }
        }
    }

    @Test("any JSON goes there and back, also a large one")
    func echo() async throws {
        try await withServices { services in
            for value: JSONValue in [nil, true, 13, "x", [1, [2, nil]], ["a": ["b": 0.5]]] {
                let back: JSONValue = try await services.rpc.call("math", "echo", value)
                #expect(back == value)
            }
            let large = String(repeating: "ü", count: 400_000)
            let back: String = try await services.rpc.call("math", "echo", large)
            #expect(back == large)
        }
    }

    @Test("a thousand calls at once each get their own answer")
    func concurrent() async throws {
        try await withServices(receiver: { $0.concurrency = 100 }) { services in
            let rpc = services.rpc
            try await withThrowingTaskGroup(of: (Int, Int).self) { group in
                for n in 0..<1000 {
                    group.addTask { (n, try await rpc.call("math", "add", [n, 1])) }
                }
                for try await (n, sum) in group { #expect(sum == n + 1) }
            }
            #expect(rpc.pendingCount == 0)
            #expect(rpc.counts.unmatchedReplies == 0)
        }
    }

    @Test("a failure arrives as it was thrown")
    func remoteError() async throws {
        try await withServices { services in
            let result = await outcome { () throws(RPCError) in
                try await services.rpc.call("math", "fail", "no", as: Int.self)
            }
            guard case .failure(.remote(let failure)) = result else {
                Issue.record("\(result)")
                return
            }
            #expect(failure == RPCFailure(code: "mine", message: "no", details: [1, 2]))
        }
    }

    @Test(
        "what goes wrong over there has a code",
        arguments: [
            ("what", RPCFailure.Code.unknownProcedure), ("add", .undecodableRequest), ("crash", .internalError),
            ("nan", .unencodableResult),
        ]
    )
    func codes(_ procedure: String, _ code: RPCFailure.Code) async throws {
        try await withServices { services in
            let result = await outcome { () throws(RPCError) in
                try await services.rpc.call("math", procedure, 1, as: Int.self)
            }
            guard case .failure(.remote(let failure)) = result else {
                Issue.record("\(result)")
                return
            }
            #expect(failure.code == code)
            #expect(!failure.message.contains("Broken"))
            try await eventually("the request is acknowledged") {
                try await services.broker.queue("math.rpcs", virtualHost: services.virtualHost)?.messages == 0
            }
        }
    }

    @Test("a service that does not exist is known within a second, not at the deadline")
    func unroutable() async throws {
        try await withServices { services in
            let start = ContinuousClock.now
            let result = await outcome { () throws(RPCError) in
                try await services.rpc.call("nobody", "add", [1], timeout: .seconds(30), as: Int.self)
            }
            guard case .failure(.unroutable("nobody")) = result else {
                Issue.record("\(result)")
                return
            }
            #expect(start.duration(to: .now) < .seconds(5))
            #expect(services.rpc.pendingCount == 0)
        }
    }

    @Test("a result of another type is an undecodable reply")
    func undecodableReply() async throws {
        try await withServices { services in
            let result = await outcome { () throws(RPCError) in
                try await services.rpc.call("math", "echo", "x", as: Int.self)
            }
            guard case .failure(.undecodableReply) = result else {
                Issue.record("\(result)")
                return
            }
        }
    }

    @Test("an argument that cannot be encoded is never sent, and harms nobody else")
    func unencodable() async throws {
        try await withServices { services in
            let result = await outcome { () throws(RPCError) in
                try await services.rpc.call("math", "echo", Double.nan, as: Int.self)
            }
            guard case .failure(.invalidRequest) = result else {
                Issue.record("\(result)")
                return
            }
            let long = String(repeating: "x", count: 200_000)
            let tooLong = await outcome { () throws(RPCError) in
                try await services.rpc.call("math", long, 1, as: Int.self)
            }
            guard case .failure(.invalidRequest) = tooLong else {
                Issue.record("\(tooLong)")
                return
            }
            let answer1: Int = try await services.rpc.call("math", "add", [1, 1])
            #expect(answer1 == 2)
        }
    }

    @Test("a call ends at its deadline, and its handler is cancelled; a late reply is dropped")
    func timeout() async throws {
        try await withServices { services in
            let result = await outcome { () throws(RPCError) in
                try await services.rpc.call("math", "hold", 1, timeout: .seconds(1), as: Int.self)
            }
            guard case .failure(.timeout) = result else {
                Issue.record("\(result)")
                return
            }
            // On a machine under load the request may even have expired in the queue.
            try await eventually("the handler is cancelled") {
                services.receiver.counts.expired == services.receiver.counts.received
            }
            #expect(services.receiver.inFlight == 0)
            #expect(services.rpc.pendingCount == 0)
        }
    }

    @Test("a request that waits in the queue is dropped by the broker when its caller has given up")
    func expiration() async throws {
        try await withServices { services in
            await services.receiver.stop()
            let result = await outcome { () throws(RPCError) in
                try await services.rpc.call("math", "add", [1], timeout: .milliseconds(200), as: Int.self)
            }
            guard case .failure(.timeout) = result else {
                Issue.record("\(result)")
                return
            }
            try await eventually("the request has expired") {
                try await services.broker.queue("math.rpcs", virtualHost: services.virtualHost)?.messages == 0
            }
        }
    }

    @Test("no time at all is a timeout, without sending", arguments: [Duration.zero, .seconds(-1)])
    func noTime(_ timeout: Duration) async throws {
        try await withServices { services in
            let result = await outcome { () throws(RPCError) in
                try await services.rpc.call("math", "add", [1], timeout: timeout, as: Int.self)
            }
            guard case .failure(.timeout(requestMayHaveBeenDelivered: false)) = result else {
                Issue.record("\(result)")
                return
            }
            #expect(services.receiver.counts.received == 0)
            let huge: Int = try await services.rpc.call("math", "add", [1], timeout: .seconds(Int64.max))
            #expect(huge == 1)
        }
    }

    @Test("a cancelled task gets its error at once, before, during and after the publish")
    func cancellation() async throws {
        try await withServices { services in
            let rpc = services.rpc
            let waiting = Task {
                await outcome { () throws(RPCError) in try await rpc.call("math", "hold", 1, as: Int.self) }
            }
            await services.gate.waitForArrivals(1)
            waiting.cancel()
            guard case .failure(.cancelled(requestMayHaveBeenDelivered: true)) = await waiting.value else {
                Issue.record("\(await waiting.value)")
                return
            }
            for _ in 0..<200 {
                let task = Task {
                    await outcome { () throws(RPCError) in try await rpc.call("math", "echo", 1, as: Int.self) }
                }
                task.cancel()
                switch await task.value {
                case .success, .failure(.cancelled): break
                case .failure(let error): Issue.record("\(error)")
                }
            }
            #expect(rpc.pendingCount == 0)
        }
    }

    @Test("a cast returns when the broker has it, and is not answered")
    func cast() async throws {
        try await withServices { services in
            try await services.rpc.cast("math", "hold", 1)
            await services.gate.waitForArrivals(1)
            services.gate.open()
            try await eventually("the cast is answered by nobody") { services.receiver.counts.answered == 1 }
            #expect(services.rpc.counts.unmatchedReplies == 0)
            guard
                case .failure(.unroutable) = await outcome({ () throws(RPCError) in
                    try await services.rpc.cast("nobody", "x", 1)
                })
            else {
                Issue.record("routed")
                return
            }
        }
    }

    @Test("late, repeated and unknown replies are counted and dropped, and the next call works")
    func strangeReplies() async throws {
        try await withServices { services in
            let name = try services.replyQueueName()
            let connection = try await AMQPConnection.open(try Endpoint(url: services.url), logger: quiet)
            let channel = try await connection.openChannel()
            let known = RequestID().description
            for id in [known, known, "not an id", nil] {
                try await channel.publish(
                    ByteBuffer(string: "1"),
                    properties: MessageProperties(correlationID: id),
                    routingKey: name
                )
            }
            try await channel.publish(ByteBuffer(), routingKey: name)
            try await eventually("all are counted") { services.rpc.counts.unmatchedReplies == 5 }
            let answer2: Int = try await services.rpc.call("math", "add", [1, 1])
            #expect(answer2 == 2)
            await connection.close()
        }
    }

    @Test("no more than the limit wait at once; the next is refused without being sent")
    func overloaded() async throws {
        try await withServices(caller: { $0.maximumCallsInFlight = 2 }) { services in
            let rpc = services.rpc
            async let first: Int = rpc.call("math", "hold", 1)
            async let second: Int = rpc.call("math", "hold", 2)
            await services.gate.waitForArrivals(2)
            guard
                case .failure(.overloaded(limit: 2)) = await outcome({ () throws(RPCError) in
                    try await rpc.call("math", "add", [1], as: Int.self)
                })
            else {
                Issue.record("taken in")
                return
            }
            services.gate.open()
            let results = try await [first, second]
            #expect(results == [1, 2])
            let answer3: Int = try await rpc.call("math", "add", [1])
            #expect(answer3 == 1)
        }
    }

    @Test("a client that knows nothing of procedures reaches the default one, over the plain queue")
    func foreignClient() async throws {
        try await withServices { services in
            let connection = try await AMQPConnection.open(try Endpoint(url: services.url), logger: quiet)
            let channel = try await connection.openChannel()
            try await channel.declareQueue("foreign", durable: true)
            let (replies, continuation) = AsyncStream.makeStream(of: Delivery.self)
            _ = try await channel.consume(queue: "foreign", noAck: true, onDelivery: { continuation.yield($0) })
            try await channel.publish(
                ByteBuffer(string: "30"),
                properties: MessageProperties(correlationID: "mine", replyTo: "foreign"),
                routingKey: "math.rpcs"
            )
            let reply = try #require(await replies.first { _ in true })
            #expect(String(buffer: reply.body) == "-30")
            #expect(reply.properties.correlationID == "mine")
            #expect(reply.properties.headers.isEmpty)
            await connection.close()
        }
    }
}
