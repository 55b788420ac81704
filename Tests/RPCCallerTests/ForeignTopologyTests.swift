import AMQPPool
import BrokerSupport
import LocalBroker
import NIOCore
import RPCCaller
import RPCReceiver
import RPCWire
import Supervision
import Synchronization
import Testing

@Suite("What is there already, in another form", .timeLimit(.minutes(3)))
struct ForeignTopologyTests {
    private func withChannel(
        _ url: String,
        _ body: (AMQPChannel) async throws -> Void
    ) async throws {
        let connection = try await AMQPConnection.open(try Endpoint(url: url), logger: quiet)
        try await body(try await connection.openChannel())
        await connection.close()
    }

    private func configuration(_ url: String) throws -> RPCReceiverConfiguration {
        var configuration = RPCReceiverConfiguration(endpoints: [try Endpoint(url: url)])
        configuration.topologyCheckInterval = .milliseconds(200)
        return configuration
    }

    @Test(
        "an exchange of another type is refused at the start by whoever meets it first, with its name and its type",
        arguments: [ExchangeType.fanout, .topic, .direct]
    )
    func otherType(_ type: ExchangeType) async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await withChannel(url) { try await $0.declareExchange("rpc", type: type, durable: true) }
            let receiver = RPCReceiver(service: "math", endpoints: [try Endpoint(url: url)], logger: quiet) {}
            let caller = RPCCaller(service: "shop", endpoints: [try Endpoint(url: url)], logger: quiet)
            for run in [receiver.run, caller.run] {
                let error = await #expect(throws: (any Error).self) { try await run() }
                let text = error.map { "\($0)" } ?? ""
                #expect(text.contains("exchange \"rpc\"") && text.contains("'\(type)'"), "\(text)")
            }
        }
    }

    @Test("an exchange that somebody else made with other properties is taken as it is")
    func otherProperties() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await withChannel(url) { try await $0.declareExchange("rpc", type: .headers, durable: false) }
            let receiver = RPCReceiver(service: "math", endpoints: [try Endpoint(url: url)], logger: quiet) {
                RPCHandler("next") { (n: Int, _) in n + 1 }
            }
            let caller = RPCCaller(service: "shop", endpoints: [try Endpoint(url: url)], logger: quiet)
            try await receiver.start()
            try await caller.start()
            try await receiver.waitUntilReady(timeout: .seconds(90))
            #expect(try await caller.call("math", "next", 1, as: Int.self) == 2)
            await caller.stop()
            await receiver.stop()
        }
    }

    @Test("when the exchange is deleted under a running pair, or its binding, requests are routed again within seconds")
    func deleted() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let receiver = RPCReceiver(
                service: "math",
                configuration: try configuration(url),
                logger: quiet,
                procedures: RPCHandlers { RPCHandler("next") { (n: Int, _) in n + 1 } }
            )
            let caller = RPCCaller(service: "shop", endpoints: [try Endpoint(url: url)], logger: quiet)
            try await receiver.start()
            try await caller.start()
            try await receiver.waitUntilReady(timeout: .seconds(90))
            for isExchange in [true, false] {
                #expect(try await caller.call("math", "next", 1, retry: .idempotent(attempts: 100), as: Int.self) == 2)
                try await withChannel(url) { channel in
                    if isExchange {
                        try await channel.deleteExchange("rpc")
                    } else {
                        let match: FieldTable = ["x-match": "all", "destination": "math"]
                        try await channel.unbindQueue("math.rpcs", from: "rpc", arguments: match)
                    }
                }
                try await eventually("calls are answered again") {
                    (try? await caller.call("math", "next", 1, timeout: .seconds(2), as: Int.self)) == 2
                }
            }
            await caller.stop()
            await receiver.stop()
        }
    }

    @Test(
        "an exchange that comes back as another type is said aloud: the receiver is not ready until it is right again"
    )
    func comesBackOtherwise() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let receiver = RPCReceiver(
                service: "math",
                configuration: try configuration(url),
                logger: quiet,
                procedures: RPCHandlers { RPCHandler("next") { (n: Int, _) in n + 1 } }
            )
            try await receiver.start()
            try await receiver.waitUntilReady(timeout: .seconds(90))
            #expect(await receiver.states.first { $0 == .ready } == .ready)
            func replace(by type: ExchangeType) async throws {
                // The receiver may declare it again, as it should be, in between.
                try await eventually("it is of the other type") {
                    (try? await withChannel(url) { channel in
                        try await channel.deleteExchange("rpc")
                        try await channel.declareExchange("rpc", type: type, durable: true)
                    }) != nil
                }
            }
            try await replace(by: .fanout)
            #expect(await receiver.states.first { $0 == .connecting } == .connecting)
            try await replace(by: .headers)
            #expect(await receiver.states.first { $0 == .ready } == .ready)
            await receiver.stop()
        }
    }

    @Test(
        "a caller whose user may not write to the exchange learns that, with the broker's words, and tries no more",
        arguments: [
            RPCRetry.never, .idempotent(attempts: 1000),
        ]
    )
    func mayNotWrite(_ retry: RPCRetry) async throws {
        try await withServices { services in
            let user = "reader-\(services.virtualHost)"
            try await services.broker.createUser(
                user,
                password: "secret",
                virtualHost: services.virtualHost,
                write: "^reader.*|^amq\\.default$"
            )
            let url = "amqp://\(user):secret@127.0.0.1:\(services.broker.port)/\(services.virtualHost)"
            let caller = RPCCaller(service: "reader", endpoints: [try Endpoint(url: url)], logger: quiet)
            try await caller.start()
            for _ in 0..<3 {
                // The reply queue goes with its last consumer, and the broker is about to close a channel.
                try await eventually("both channels consume the replies") {
                    let registry = try caller.supervisor.child("registry", as: ChannelRegistry.self).resolve()
                    return registry.channels.count { $0.closedError == nil } == 2
                }
                let result = await outcome { () throws(RPCError) in
                    try await caller.call("math", "add", [1], timeout: .seconds(60), retry: retry, as: Int.self)
                }
                guard case .failure(.accessRefused(let text)) = result else {
                    Issue.record("\(result)")
                    continue
                }
                #expect(text.contains("rpc") && text.contains(user), "\(text)")
                #expect(!RPCError.accessRefused(text).requestMayHaveBeenProcessed)
            }
            let cast = await outcome { () throws(RPCError) in
                try await caller.cast("math", "add", [1], timeout: .seconds(60), retry: retry)
            }
            guard case .failure(.accessRefused) = cast else {
                Issue.record("\(cast)")
                return
            }
            #expect(caller.counts.retries == 0)
            await caller.stop()
        }
    }

    @Test("a call to a service that nobody serves at present can know")
    func nobodyServes() async throws {
        try await withServices(caller: { $0.whenNobodyServes = .failAtOnce }) { services in
            #expect(try await services.rpc.call("math", "add", [1, 2], as: Int.self) == 3)
            await services.receiver.stop()
            try await eventually("nobody serves it") {
                let result = await outcome { () throws(RPCError) in
                    try await services.rpc.call("math", "add", [1], timeout: .milliseconds(500), as: Int.self)
                }
                guard case .failure(.noReceiver(destination: "math")) = result else { return false }
                return true
            }
            let unknown = await outcome { () throws(RPCError) in
                try await services.rpc.call("nowhere", "add", [1], as: Int.self)
            }
            guard case .failure(.unroutable) = unknown else {
                Issue.record("\(unknown)")
                return
            }
            try await services.receiver.start()
            try await eventually("it is served again") {
                (try? await services.rpc.call("math", "add", [1, 2], timeout: .seconds(1), as: Int.self)) == 3
            }
        }
    }
}

@Suite("Names and settings that cannot work", .timeLimit(.minutes(5)))
struct ImpossibleSettingsTests {
    private static let endpoint = "amqp://guest:guest@127.0.0.1:1"

    private func reason(_ start: () async throws -> Void) async -> RPCConfigurationError? {
        do {
            try await start()
            return nil
        } catch SupervisionError.failedToStart(_, let reason) {
            guard case .crashed(let cause) = reason else { return nil }
            return cause as? RPCConfigurationError
        } catch {
            return error as? RPCConfigurationError
        }
    }

    @Test(
        "a line break or another control character in a name is refused at once, by name",
        arguments: ["\r", "\n", "\0", "\u{7f}"]
    )
    func controlCharacters(_ character: String) async throws {
        let name = "ma\(character)th"
        let endpoints = [try Endpoint(url: Self.endpoint)]
        let caller = RPCCaller(service: name, endpoints: endpoints, logger: quiet)
        #expect(await reason { try await caller.start() } == .invalidServiceName(name))
        let receiver = RPCReceiver(service: name, endpoints: endpoints, logger: quiet) {}
        #expect(await reason { try await receiver.start() } == .invalidServiceName(name))
        let odd = RPCReceiver(service: "math", endpoints: endpoints, logger: quiet) {
            RPCHandler(name) { (n: Int, _) in n }
        }
        #expect(await reason { try await odd.start() } == .invalidName(name, of: "procedure"))
        var configuration = RPCReceiverConfiguration(endpoints: endpoints)
        configuration.queue = name
        let queue = RPCReceiver(
            service: "math",
            configuration: configuration,
            logger: quiet,
            procedures: RPCHandlers {}
        )
        #expect(await reason { try await queue.start() } == .invalidName(name, of: "request queue"))
        let good = RPCCaller(service: "shop", endpoints: endpoints, logger: quiet)
        for (destination, procedure) in [(name, "add"), ("math", name)] {
            let result = await outcome { () throws(RPCError) in
                try await good.call(destination, procedure, 1, as: Int.self)
            }
            guard case .failure(.invalidRequest(let text)) = result else {
                Issue.record("\(result)")
                continue
            }
            #expect(!text.contains(character), "the text can be printed")
        }
    }

    @Test("a limit of one channel on a connection is an error at the start, that says what is needed")
    func oneChannel() async throws {
        let endpoints = [try Endpoint(url: Self.endpoint + "/%2f?channel_max=1")]
        let caller = RPCCaller(service: "shop", endpoints: endpoints, logger: quiet)
        let receiver = RPCReceiver(service: "math", endpoints: endpoints, logger: quiet) {}
        for start in [caller.start, receiver.start] {
            guard case .invalidSetting = await reason(start) else {
                Issue.record("it started")
                continue
            }
        }
    }

    @Test("one that cannot start fails what waits for it at once")
    func cannotStart() async throws {
        let caller = RPCCaller(service: "", endpoints: [try Endpoint(url: Self.endpoint)], logger: quiet)
        await #expect(throws: (any Error).self) { try await caller.start() }
        let result = await outcome { () throws(RPCError) in
            try await caller.call("math", "add", 1, timeout: .seconds(1000), as: Int.self)
        }
        guard case .failure(.notConnected) = result else {
            Issue.record("\(result)")
            return
        }
        let receiver = RPCReceiver(service: "", endpoints: [try Endpoint(url: Self.endpoint)], logger: quiet) {}
        await #expect(throws: (any Error).self) { try await receiver.start() }
        await #expect(throws: AMQPError.self) { try await receiver.waitUntilReady(timeout: .seconds(1000)) }
    }

    @Test("one whose tree gives up fails what waits for it at once")
    func givesUp() async throws {
        var configuration = RPCCallerConfiguration(endpoints: [try Endpoint(url: Self.endpoint)])
        configuration.intensity = RestartIntensity(0, within: .seconds(5))
        let caller = RPCCaller(service: "shop", configuration: configuration, logger: quiet)
        try await caller.start()
        let waiting = Task {
            await outcome { () throws(RPCError) in
                try await caller.call("math", "add", 1, timeout: .seconds(1000), as: Int.self)
            }
        }
        try caller.supervisor.child("registry", as: ChannelRegistry.self).pid?.kill()
        guard case .failure = await waiting.value else {
            Issue.record("it was answered")
            return
        }
        let next = await outcome { () throws(RPCError) in
            try await caller.call("math", "add", 1, timeout: .seconds(1000), as: Int.self)
        }
        guard case .failure(.notConnected) = next else {
            Issue.record("\(next)")
            return
        }
    }

    @Test("one that runs by itself does not run as a part of a tree too")
    func twice() async throws {
        let endpoints = [try Endpoint(url: Self.endpoint)]
        let caller = RPCCaller(service: "shop", endpoints: endpoints, logger: quiet)
        let receiver = RPCReceiver(service: "math", endpoints: endpoints, logger: quiet) {}
        try await caller.start()
        try await receiver.start()
        let tree = Supervisor("app", logger: quiet) { caller.supervisor }
        await #expect(throws: (any Error).self) { try await tree.start() }
        let other = Supervisor("app", logger: quiet) { receiver.supervisor }
        await #expect(throws: (any Error).self) { try await other.start() }
        #expect(caller.tree().nodes.allSatisfy { $0.pid != nil })
        await caller.stop()
        await receiver.stop()
    }

    @Test(
        "no number and no duration of the settings ends the process",
        arguments: [0, -1, .max, .min],
        [
            Duration.zero, .seconds(-1), .seconds(Int64.max), .seconds(Int64.min),
        ]
    )
    func extremes(_ number: Int, _ duration: Duration) async throws {
        var configuration = RPCCallerConfiguration(endpoints: [try Endpoint(url: Self.endpoint)])
        configuration.maximumCallsInFlight = number
        configuration.whenFull = .wait(limit: number)
        configuration.timeout = duration
        configuration.replyQueueExpiry = duration
        configuration.drainTimeout = .zero
        let caller = RPCCaller(service: "shop", configuration: configuration, logger: quiet)
        let isStarted = await reason { try await caller.start() } == nil
        let call = Task {
            await outcome { () throws(RPCError) in
                try await caller.call("math", "add", 1, retry: .idempotent(attempts: number), as: Int.self)
            }
        }
        let ready = Task {
            await outcome { () throws(RPCError) in try await caller.waitUntilReady(timeout: duration) }
        }
        if isStarted { await Task.yield() }
        call.cancel()
        ready.cancel()
        _ = await (call.value, ready.value)
        await caller.stop()

        var receiving = RPCReceiverConfiguration(endpoints: [try Endpoint(url: Self.endpoint)])
        receiving.concurrency = number
        receiving.whenBusy = .shed(waiting: number)
        receiving.deliveryLimit = number
        receiving.handlerTimeLimit = duration
        receiving.topologyCheckInterval = duration
        receiving.deduplication = RPCDeduplication(maximumEntries: number, maximumBytes: number, maximumAge: duration)
        receiving.drainTimeout = .zero
        let receiver = RPCReceiver(service: "math", configuration: receiving, logger: quiet, procedures: RPCHandlers {})
        _ = await reason { try await receiver.start() }
        let waiting = Task { try await receiver.waitUntilReady(timeout: duration) }
        waiting.cancel()
        _ = await waiting.result
        await receiver.stop()
    }
}
