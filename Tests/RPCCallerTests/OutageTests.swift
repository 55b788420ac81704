import AMQPPool
import BrokerSupport
import LocalBroker
import Logging
import RPCCaller
import RPCReceiver
import Supervision
import Testing

/// What broker and network do to calls that wait.
// Tests with a broker of their own wait for their turn.
@Suite("Outages", .timeLimit(.minutes(15)))
struct OutageTests {
    func callerConnections(_ services: Services) async throws -> [ConnectionInfo] {
        try await services.broker.connections(virtualHost: services.virtualHost)
            .filter { $0.clientName.hasPrefix("test-caller") }
    }

    @Test(
        "a lost TCP connection costs no call that was confirmed, and ends those in doubt at once",
        arguments: [true, false]
    )
    func connectionLost(_ byAdministrator: Bool) async throws {
        try await withServices(receiver: { $0.concurrency = 200 }) { services in
            let rpc = services.rpc
            let queue = try services.replyQueueName()
            let held = (0..<20).map { n in
                Task { await outcome { () throws(RPCError) in try await rpc.call("math", "hold", n, as: Int.self) } }
            }
            await services.gate.waitForArrivals(20)
            let connection = try #require(try await callerConnections(services).first)
            let passing = (0..<300).map { n in
                Task {
                    await outcome { () throws(RPCError) in try await rpc.call("math", "add", [n, 1], as: Int.self) }
                }
            }
            if byAdministrator {
                try await services.broker.closeConnection(connection.name)
            } else {
                try await services.broker.dropConnection(connection.name)
            }
            for (n, task) in passing.enumerated() {
                switch await task.value {
                case .success(n + 1), .failure(.connectionLost(requestMayHaveBeenDelivered: true)): break
                case let other: Issue.record("\(other)")
                }
            }
            services.gate.open()
            for (n, task) in held.enumerated() {
                guard case .success(n) = await task.value else {
                    Issue.record("\(await task.value)")
                    continue
                }
            }
            #expect(rpc.replyQueueName == queue)
            try await eventually("both connections consume") {
                try await services.replyQueues().map(\.consumers) == [2]
            }
        }
    }

    @Test("when every connection is lost, waiting calls fail at once, and the next call has a new reply queue")
    func allLost() async throws {
        try await withServices { services in
            let rpc = services.rpc
            let queue = try services.replyQueueName()
            let held = (0..<5).map { n in
                Task { await outcome { () throws(RPCError) in try await rpc.call("math", "hold", n, as: Int.self) } }
            }
            await services.gate.waitForArrivals(5)
            let start = ContinuousClock.now
            for connection in try await callerConnections(services) {
                try await services.broker.dropConnection(connection.name)
            }
            for task in held {
                switch await task.value {
                case .failure(.replyQueueLost), .failure(.connectionLost(true)): break
                case let other: Issue.record("\(other)")
                }
            }
            #expect(start.duration(to: .now) < .seconds(10))
            services.gate.open()
            let sum: Int = try await rpc.call("math", "add", [4, 9])
            #expect(sum == 13)
            #expect(rpc.replyQueueName != queue)
            try await eventually("the old queue is gone") {
                try await services.replyQueues().map(\.name) == [rpc.replyQueueName]
            }
        }
    }

    @Test("a deleted reply queue fails the calls that wait for it, and all channels move to a new one")
    func queueDeleted() async throws {
        try await withServices { services in
            let rpc = services.rpc
            let queue = try services.replyQueueName()
            let held = Task {
                await outcome { () throws(RPCError) in try await rpc.call("math", "hold", 1, as: Int.self) }
            }
            await services.gate.waitForArrivals(1)
            try await services.broker.deleteQueue(queue, virtualHost: services.virtualHost)
            guard case .failure(.replyQueueLost) = await held.value else {
                Issue.record("\(await held.value)")
                return
            }
            services.gate.open()
            let sum: Int = try await rpc.call("math", "add", [4, 9])
            #expect(sum == 13)
            #expect(rpc.replyQueueName != queue)
            try await eventually("both channels consume the new one") {
                try await services.replyQueues().map { "\($0.name) \($0.consumers)" } == [
                    "\(rpc.replyQueueName ?? "") 2"
                ]
            }
            #expect(rpc.tree().nodes.allSatisfy { $0.restarts == 0 }, "no process had to die for it")
        }
    }

    @Test(
        "the end of the broker fails waiting calls at once, and calls made meanwhile are answered when it is back",
        arguments: ["kill -9", "stop"]
    )
    func brokerRestarted(_ way: String) async throws {
        try await withServicesOnOwnBroker { services in
            let rpc = services.rpc
            let held = (0..<20).map { n in
                Task { await outcome { () throws(RPCError) in try await rpc.call("math", "hold", n, as: Int.self) } }
            }
            await services.gate.waitForArrivals(10)
            let start = ContinuousClock.now
            if way == "stop" { await services.broker.stop() } else { try await services.broker.kill() }
            for task in held {
                switch await task.value {
                case .failure(.replyQueueLost), .failure(.connectionLost(true)): break
                case let other: Issue.record("\(other)")
                }
            }
            #expect(start.duration(to: .now) < .seconds(10))
            services.gate.open()
            _ = try await whyNotConnected(rpc)
            let early = Task {
                await outcome { () throws(RPCError) in
                    try await rpc.call("math", "add", [4, 9], timeout: .seconds(90), as: Int.self)
                }
            }
            try await services.broker.startAgain()
            switch await early.value {
            case .success(13): break
            // What the broker had not written to disk when it was killed is gone, a young durable queue too: then nobody is
            // bound until the receiver is back, and the call says so.
            case .failure(.unroutable): try await services.receiver.waitUntilReady(timeout: .seconds(60))
            case let other: Issue.record("\(other)")
            }
            let next = try await rpc.call("math", "add", [4, 9], timeout: .seconds(60), as: Int.self)
            #expect(next == 13)
            #expect(rpc.tree().nodes.allSatisfy { $0.pid != nil })
        }
    }

    @Test("a broker that comes back empty while a thousand calls wait: each fails at once, and the next ones work")
    func brokerWiped() async throws {
        try await withServicesOnOwnBroker(receiver: { $0.concurrency = 1000 }) { services in
            let rpc = services.rpc
            let held = (0..<1000).map { n in
                Task { await outcome { () throws(RPCError) in try await rpc.call("math", "hold", n, as: Int.self) } }
            }
            await services.gate.waitForArrivals(1000)
            let start = ContinuousClock.now
            let wiping = Task { try await services.broker.wipe() }
            for task in held {
                switch await task.value {
                case .failure(.replyQueueLost), .failure(.connectionLost(true)): break
                case let other: Issue.record("\(other)")
                }
            }
            #expect(start.duration(to: .now) < .seconds(20))
            services.gate.open()
            try await wiping.value
            try await services.receiver.waitUntilReady(timeout: .seconds(60))
            // The exchange, the queue and its binding are there again.
            for n in 0..<20 {
                let next = try await rpc.call("math", "add", [n, 9], timeout: .seconds(60), as: Int.self)
                #expect(next == n + 9)
            }
            #expect(rpc.pendingCount == 0)
            let nodes = rpc.tree().nodes + services.receiver.tree().nodes
            #expect(nodes.allSatisfy { $0.pid != nil }, "an outage spends no restarts above the connections")
        }
    }

    @Test("inside a larger tree a refused topology ends the caller alone: its parent decides, and is told why")
    func topologyRefusedNested() async throws {
        try await withServices { services in
            var configuration = RPCCallerConfiguration(endpoints: [try .init(url: services.url)])
            configuration.names.replyQueueInfix = ".rpcs"
            let rpc = RPCCaller(service: "amq.test", configuration: configuration, logger: quiet)
            let app = Supervisor("app", intensity: RestartIntensity(0, within: .seconds(5)), logger: quiet) {
                rpc.supervisor
            }
            await #expect {
                try await app.run()
            } throws: { error in
                let text = "\(error)"
                // The app gave up because of its child, which the refusal would not say had it ended the app itself.
                return text.contains("caller") && text.contains("amq.test.rpcs")
            }
        }
    }

    @Test("a broker that accepts no messages is named as the reason, and calls work again when it does")
    func blocked() async throws {
        try await withServicesOnOwnBroker { services in
            let rpc = services.rpc
            let told = Task {
                for await state in rpc.states where state == .blocked { return }
            }
            try await services.broker.setMemoryAlarm(true)
            // A connection learns of the alarm with its first publish. That one is in doubt, the next are not sent.
            var outcomes: [RPCError] = []
            for _ in 0..<10 {
                let result = await outcome { () throws(RPCError) in
                    try await rpc.call("math", "add", [1], timeout: .milliseconds(200), as: Int.self)
                }
                guard case .failure(let error) = result else {
                    Issue.record("\(result)")
                    return
                }
                outcomes.append(error)
                if case .blocked = error { break }
            }
            guard case .blocked(let why)? = outcomes.last else {
                Issue.record("\(outcomes)")
                return
            }
            #expect(why.contains("memory"), "\(why)")
            await told.value
            #expect(outcomes.dropLast().allSatisfy { if case .timeout = $0 { true } else { false } })
            let waiting = Task {
                await outcome { () throws(RPCError) in try await rpc.call("math", "add", [4, 9], as: Int.self) }
            }
            try await eventually("the call waits") { rpc.pendingCount == 1 }
            try await services.broker.setMemoryAlarm(false)
            guard case .success(13) = await waiting.value else {
                Issue.record("\(await waiting.value)")
                return
            }
        }
    }

    /// Calls until the error tells what was tried: the first attempt to connect may take longer than a call has.
    func whyNotConnected(_ rpc: RPCCaller) async throws -> String {
        var why = ""
        try await eventually("the error names the endpoint") {
            let result = await outcome { () throws(RPCError) in
                try await rpc.call("math", "add", [1], timeout: .milliseconds(300), as: Int.self)
            }
            guard case .failure(.notConnected(let text)) = result else {
                Issue.record("\(result)")
                return true
            }
            why = text
            return why.contains("127.0.0.1")
        }
        return why
    }

    @Test("an exchange that is missing and may not be made is named by the calls that wait for it")
    func exchangeMissing() async throws {
        try await withServices { services in
            var configuration = RPCCallerConfiguration(endpoints: [try .init(url: services.url)])
            configuration.names = RPCNames(exchange: "somewhere", declares: false)
            let rpc = RPCCaller(service: "other", configuration: configuration, logger: quiet)
            try await rpc.start()
            var last: Result<Int, RPCError>?
            try await eventually("the exchange is named") {
                last = await outcome { () throws(RPCError) in
                    try await rpc.call("math", "add", [1], timeout: .seconds(1), as: Int.self)
                }
                guard case .failure(.notConnected(let why)) = last else { return false }
                return why.contains("somewhere") && why.contains("404")
            }
            guard case .failure(.notConnected) = last else {
                Issue.record("\(String(describing: last))")
                return
            }
            await rpc.stop()
        }
    }

    @Test("without a broker a call waits for its own deadline, and then says what was tried")
    func noBroker() async throws {
        let rpc = RPCCaller(service: "test", endpoints: ["amqp://guest:secret@127.0.0.1:1"], logger: quiet)
        let beforeStart = await outcome { () throws(RPCError) in
            try await rpc.call("math", "add", [1], timeout: .milliseconds(50), as: Int.self)
        }
        guard case .failure(.notConnected(why: "the caller is not running")) = beforeStart else {
            Issue.record("\(beforeStart)")
            return
        }
        try await rpc.start()
        let why = try await whyNotConnected(rpc)
        #expect(!why.contains("secret"))
        let waiting = Task {
            await outcome { () throws(RPCError) in try await rpc.call("math", "add", [1], as: Int.self) }
        }
        try await eventually("the call waits") { rpc.pendingCount == 1 }
        waiting.cancel()
        guard case .failure(.cancelled(requestMayHaveBeenDelivered: false)) = await waiting.value else {
            Issue.record("\(await waiting.value)")
            return
        }
        await rpc.stop()
        let stopped = await outcome { () throws(RPCError) in try await rpc.call("math", "add", [1], as: Int.self) }
        guard case .failure(.notConnected(why: "the caller is stopped")) = stopped else {
            Issue.record("\(stopped)")
            return
        }
    }

    @Test("a call that waits for the caller to be started is sent then")
    func waitsForStart() async throws {
        try await withServices { services in
            let rpc = RPCCaller(service: "test", endpoints: [try .init(url: services.url)], logger: quiet)
            let early = Task {
                await outcome { () throws(RPCError) in
                    try await rpc.call("math", "add", [4, 9], timeout: .seconds(60), as: Int.self)
                }
            }
            try await rpc.start()
            guard case .success(13) = await early.value else {
                Issue.record("\(await early.value)")
                return
            }
            await rpc.stop()
        }
    }

    @Test("a reply queue that the broker refuses stops the caller, with the queue's name and the broker's words")
    func topologyRefused() async throws {
        try await withServices { services in
            var configuration = RPCCallerConfiguration(endpoints: [try .init(url: services.url)])
            configuration.names.replyQueueInfix = ".rpcs"
            let rpc = RPCCaller(service: "amq.test", configuration: configuration, logger: quiet)
            await #expect {
                try await rpc.run()
            } throws: { error in
                guard let refusal = error as? RPCTopologyError else { return false }
                return refusal.code == 403 && refusal.subject.contains("amq.test.rpcs") && refusal.text.contains("amq.")
            }
        }
    }

    @Test("a service without a name, or without endpoints, does not start")
    func configuration() async throws {
        for rpc in [
            RPCCaller(service: "", endpoints: ["amqp://127.0.0.1"], logger: quiet),
            RPCCaller(service: String(repeating: "x", count: 201), endpoints: ["amqp://127.0.0.1"], logger: quiet),
            RPCCaller(service: "test", endpoints: [], logger: quiet),
        ] {
            await #expect(throws: SupervisionError.self) { try await rpc.start() }
        }
    }
}
