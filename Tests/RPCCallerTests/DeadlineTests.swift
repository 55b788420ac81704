import AMQPPool
import BrokerSupport
import Logging
import RPCCaller
import RPCReceiver
import RPCWire
import Synchronization
import Testing

/// How the time that a caller gives travels with its request (design part 4).
@Suite("Deadlines travel", .timeLimit(.minutes(4)))
struct DeadlineTests {
    /// A service that answers and calls.
    struct Service: Sendable {
        let rpc: RPCCaller
        let receiver: RPCReceiver

        /// Runs the service while the body does.
        static func with(
            _ name: String,
            _ url: String,
            concurrency: Int = 10,
            _ procedures: (RPCCaller) -> RPCHandlers,
            _ body: (Service) async throws -> Void
        ) async throws {
            let endpoint = try Endpoint(url: url)
            let rpc = RPCCaller(service: name, endpoints: [endpoint], logger: quiet)
            var configuration = RPCReceiverConfiguration(endpoints: [endpoint])
            configuration.concurrency = concurrency
            configuration.drainTimeout = .seconds(1)
            // One channel, so that `concurrency` is what is handed over.
            configuration.pool.connections = 1
            let receiver = RPCReceiver(
                service: name,
                configuration: configuration,
                logger: quiet,
                procedures: procedures(rpc)
            )
            let service = Service(rpc: rpc, receiver: receiver)
            do {
                try await rpc.start()
                try await receiver.start()
                try await rpc.waitUntilReady(timeout: .seconds(90))
                try await receiver.waitUntilReady(timeout: .seconds(90))
                try await body(service)
            } catch {
                await service.stop()
                throw error
            }
            await service.stop()
        }

        private func stop() async {
            await receiver.stop()
            await rpc.stop()
        }
    }

    struct Seen: Codable, Sendable {
        let procedure: String
        /// In seconds, what was left when the handler began.
        let left: Double
    }

    private static func seen(_ context: RPCContext) -> Seen {
        Seen(procedure: context.procedure, left: context.remaining / .seconds(1))
    }

    @Test("nested calls, A to B to A, inherit what is left, and no timeout of theirs extends it")
    func nested() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await Service.with("a", url) { rpc in
                RPCHandlers {
                    RPCHandler("outer") { (_: Int, context) -> [Seen] in
                        let seen = Self.seen(context)
                        return [seen] + (try await rpc.call("b", "middle", 0, timeout: .seconds(3600), as: [Seen].self))
                    }
                    RPCHandler("leaf") { (_: Int, context) in [Self.seen(context)] }
                }
            } _: { a in
                try await Service.with("b", url) { rpc in
                    RPCHandlers {
                        RPCHandler("middle") { (_: Int, context) -> [Seen] in
                            let seen = Self.seen(context)
                            // In a child task: it inherits, too.
                            async let inner: [Seen] = rpc.call("a", "leaf", 0, timeout: .seconds(3600))
                            return [seen] + (try await inner)
                        }
                    }
                } _: { _ in
                    let seen: [Seen] = try await a.rpc.call("a", "outer", 0, timeout: .seconds(40))
                    #expect(seen.map(\.procedure) == ["outer", "middle", "leaf"])
                    #expect(seen.allSatisfy { $0.left > 0 && $0.left <= 40.002 }, "\(seen)")
                    #expect(seen[0].left >= seen[1].left - 0.002 && seen[1].left >= seen[2].left - 0.002, "\(seen)")
                }
            }
        }
    }

    @Test("a nested call may shorten the deadline")
    func shortens() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await Service.with("a", url) { rpc in
                RPCHandlers {
                    RPCHandler("outer") { (_: Int, _) -> Seen in
                        try await rpc.call("a", "leaf", 0, timeout: .seconds(20))
                    }
                    RPCHandler("leaf") { (_: Int, context) in Self.seen(context) }
                }
            } _: { a in
                let seen: Seen = try await a.rpc.call("a", "outer", 0, timeout: .seconds(60))
                #expect(seen.left <= 20.002)
                let deadline = ContinuousClock.now + .seconds(10)
                let direct = try await RPCDeadline.shortened(to: deadline) {
                    try await a.rpc.call("a", "leaf", 0, timeout: .seconds(60), as: Seen.self)
                }
                #expect(direct.left <= 10.002)
                #expect(RPCDeadline.current == nil)
            }
        }
    }

    @Test("work for a caller that has given up calls nobody any more, and says that nothing was sent")
    func passed() async throws {
        try await withServices { services in
            let result = await RPCDeadline.shortened(to: .now - .seconds(1)) {
                await outcome { () throws(RPCError) in try await services.rpc.call("math", "add", [1], as: Int.self) }
            }
            guard case .failure(.timeout(requestMayHaveBeenDelivered: false)) = result else {
                Issue.record("\(result)")
                return
            }
            #expect(services.receiver.counts.received == 0)
        }
    }

    @Test("R29: a service that calls itself with all places taken gets a timeout, not a deadlock")
    func callsItself() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await Service.with("a", url, concurrency: 1) { rpc in
                RPCHandlers {
                    RPCHandler("outer") { (_: Int, _) -> String in
                        do throws(RPCError) {
                            return try await rpc.call("a", "leaf", 0, timeout: .seconds(1))
                        } catch {
                            return "\(error.requestMayHaveBeenProcessed): \(error)"
                        }
                    }
                    RPCHandler("leaf") { (_: Int, _) in "leaf" }
                }
            } _: { a in
                let answer: String = try await a.rpc.call("a", "outer", 0, timeout: .seconds(60))
                #expect(answer.hasSuffix("no reply before the deadline"), "\(answer)")
                // The place is free again, and replies were consumed all the time.
                let leaf: String = try await a.rpc.call("a", "leaf", 0, timeout: .seconds(60))
                #expect(leaf == "leaf")
                #expect(a.rpc.pendingCount == 0)
            }
        }
    }
}
