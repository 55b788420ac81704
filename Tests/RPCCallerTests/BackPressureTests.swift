import AMQPPool
import BrokerSupport
import ConcurrencyPrimitives
import LocalBroker
import NIOCore
import RPCCaller
import RPCReceiver
import Supervision
import Synchronization
import Testing

// Tests with a broker of their own wait for their turn.
@Suite("Too much of everything", .timeLimit(.minutes(15)))
struct BackPressureTests {
    @Test("calls beyond the limit wait for a place in order, and say so when they get none in time")
    func waits() async throws {
        try await withServices(caller: {
            $0.maximumCallsInFlight = 2
            $0.whenFull = .wait(limit: 3)
        }) { services in
            let rpc = services.rpc
            let held = (0..<2).map { n in
                Task { await outcome { () throws(RPCError) in try await rpc.call("math", "hold", n, as: Int.self) } }
            }
            await services.gate.waitForArrivals(2)
            let hasty = await outcome { () throws(RPCError) in
                try await rpc.call("math", "add", [1], timeout: .milliseconds(100), as: Int.self)
            }
            guard case .failure(.overloaded(limit: 2)) = hasty else {
                Issue.record("\(hasty)")
                return
            }
            let waiting = (2..<5).map { n in
                Task { await outcome { () throws(RPCError) in try await rpc.call("math", "hold", n, as: Int.self) } }
            }
            try await eventually("three wait") { rpc.pendingCount == 5 }
            let refused = await outcome { () throws(RPCError) in try await rpc.call("math", "add", [1], as: Int.self) }
            guard case .failure(.overloaded(limit: 2)) = refused else {
                Issue.record("\(refused)")
                return
            }
            #expect(services.receiver.counts.received == 2)
            services.gate.open()
            for (n, task) in (held + waiting).enumerated() {
                guard case .success(n) = await task.value else {
                    Issue.record("\(await task.value)")
                    continue
                }
            }
            #expect(rpc.pendingCount == 0)
        }
    }

    @Test("hundreds of calls through two places are all answered")
    func manyThroughFew() async throws {
        try await withServices(caller: {
            $0.maximumCallsInFlight = 2
            $0.whenFull = .wait()
        }) { services in
            let rpc = services.rpc
            try await withThrowingTaskGroup(of: (Int, Int).self) { group in
                for n in 0..<300 {
                    group.addTask { (n, try await rpc.call("math", "add", [n, 1], timeout: .seconds(110))) }
                }
                for try await (n, sum) in group { #expect(sum == n + 1) }
            }
            #expect(rpc.pendingCount == 0)
        }
    }

    @Test("an overloaded receiver sheds with a code of its own; nothing of it ran")
    func sheds() async throws {
        try await withServices(receiver: {
            $0.concurrency = 2
            $0.whenBusy = .shed(waiting: 2)
            $0.pool.connections = 1
        }) { services in
            let rpc = services.rpc
            let calls = (0..<20).map { n in
                Task { await outcome { () throws(RPCError) in try await rpc.call("math", "hold", n, as: Int.self) } }
            }
            try await eventually("sixteen are shed") { services.receiver.counts.shed == 16 }
            services.gate.open()
            var answered = 0
            for task in calls {
                switch await task.value {
                case .success: answered += 1
                case .failure(.remote(let failure)) where failure.code == .overloaded:
                    #expect(!RPCError.remote(failure).requestMayHaveBeenProcessed)
                case let other: Issue.record("\(other)")
                }
            }
            #expect(answered == 4)
            #expect(services.gate.arrived == 4)
        }
    }

    @Test("more handlers that ignore their cancellation than may run: no more requests are taken until some have ended")
    func zombies() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let endpoint = try Endpoint(url: url)
            // Holds the handlers up whatever becomes of their tasks.
            let stuck = OneShot<Int>()
            var configuration = RPCReceiverConfiguration(endpoints: [endpoint])
            configuration.concurrency = 2
            configuration.handlerTimeLimit = .seconds(1)
            let receiver = RPCReceiver(
                service: "math",
                configuration: configuration,
                logger: quiet,
                procedures: RPCHandlers {
                    RPCHandler("stuck") { (_: Int, _) -> Int in await stuck.settled() }
                    RPCHandler("one") { (_: Int, _) in 1 }
                }
            )
            let rpc = RPCCaller(service: "test", endpoints: [endpoint], logger: quiet)
            try await receiver.start()
            try await rpc.start()
            try await receiver.waitUntilReady(timeout: .seconds(90))
            for _ in 0..<3 {
                let result = await outcome { () throws(RPCError) in
                    try await rpc.call("math", "stuck", 0, timeout: .seconds(60), as: Int.self)
                }
                guard case .failure(.remote(let failure)) = result, failure.code == .handlerTimeout else {
                    Issue.record("\(result)")
                    break
                }
            }
            #expect(receiver.zombieHandlers == 3)
            for await state in receiver.states where state == .suspended { break }
            try await eventually("nothing is consumed") {
                try await broker.queue("math.rpcs", virtualHost: virtualHost)?.consumers == 0
            }
            let waiting = Task {
                await outcome { () throws(RPCError) in
                    try await rpc.call("math", "one", 0, timeout: .seconds(60), as: Int.self)
                }
            }
            try await eventually("a request waits in the queue") {
                try await broker.queue("math.rpcs", virtualHost: virtualHost)?.ready == 1
            }
            stuck.set(0)
            guard case .success(1) = await waiting.value else {
                Issue.record("\(await waiting.value)")
                return
            }
            #expect(receiver.zombieHandlers == 0)
            try await eventually("both channels consume again") {
                try await broker.queue("math.rpcs", virtualHost: virtualHost)?.consumers == 2
            }
            #expect(receiver.tree().nodes.allSatisfy { $0.restarts == 0 })
            await rpc.stop()
            await receiver.stop()
        }
    }

    @Test("a message that the broker finds too large is refused once, and from then on here; a reply becomes an error")
    func tooLargeForBroker() async throws {
        var options = TestBroker.options
        options.configuration = "max_message_size = 100000"
        try await TestBroker.own(options) { broker in
            let endpoint = try Endpoint(url: broker.url)
            let runs = Atomic(0)
            let receiver = RPCReceiver(service: "math", endpoints: [endpoint], logger: quiet) {
                RPCHandler("large") { (n: Int, _) in
                    runs.add(1, ordering: .relaxed)
                    return String(repeating: "x", count: n)
                }
                RPCHandler("count") { (text: String, _) in text.utf8.count }
            }
            let rpc = RPCCaller(service: "test", endpoints: [endpoint], logger: quiet)
            try await receiver.start()
            try await rpc.start()
            try await receiver.waitUntilReady(timeout: .seconds(90))
            // The redelivery may come on the other channel before the refusal on the first one is read, and be refused there too.
            var most = 3
            for _ in 1...2 {
                let result = await outcome { () throws(RPCError) in
                    try await rpc.call("math", "large", 200_000, timeout: .seconds(60), as: String.self)
                }
                guard case .failure(.remote(let failure)) = result, failure.code == .unencodableResult else {
                    Issue.record("\(result)")
                    return
                }
                let count = runs.load(ordering: .relaxed)
                #expect(count <= most, "once for each channel, and never again")
                most = count + 1
            }
            for _ in 0..<2 {
                let result = await outcome { () throws(RPCError) in
                    try await rpc.call(
                        "math",
                        "count",
                        String(repeating: "x", count: 200_000),
                        timeout: .seconds(60),
                        as: Int.self
                    )
                }
                guard case .failure(.invalidRequest(let why)) = result, why.contains("100000") else {
                    Issue.record("\(result)")
                    return
                }
            }
            let small: Int = try await rpc.call("math", "count", "abc", timeout: .seconds(60))
            #expect(small == 3)
            await rpc.stop()
            await receiver.stop()
        }
    }
}
