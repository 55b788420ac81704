import AMQPPool
import BrokerSupport
import LocalBroker
import Logging
import RPCCaller
import RPCReceiver
import ServiceLifecycle
import Supervision
import Synchronization
import Testing

@Suite("Stopping without losing a call", .timeLimit(.minutes(4)))
struct GracefulStopTests {
    enum Way: CaseIterable {
        case stop, serviceGroup, largerTree
    }

    @Test(
        "a caller that stops refuses new calls at once, and lets those that wait get their answers",
        arguments: Way.allCases
    )
    func caller(_ way: Way) async throws {
        try await withServices { services in
            let logs = RecordedLogs()
            let logger = Logger(label: "test") { _ in logs }
            let rpc = RPCCaller(service: "test2", endpoints: [try Endpoint(url: services.url)], logger: logger)
            let app = Supervisor("app", logger: quiet) { if way == .largerTree { rpc.supervisor } }
            let group = ServiceGroup(services: [rpc], logger: quiet)
            let running: Task<Void, any Error>? = way == .serviceGroup ? Task { try await group.run() } : nil
            switch way {
            case .stop: try await rpc.start()
            case .largerTree: try await app.start()
            case .serviceGroup: break
            }
            // One that stops between declaring and consuming leaves its queue to `x-expires`.
            try await eventually("both connections consume") {
                try await services.broker.queues(virtualHost: services.virtualHost)
                    .contains { $0.name.hasPrefix("test2.") && $0.consumers == 2 }
            }
            let held = (0..<5).map { n in
                Task {
                    await outcome { () throws(RPCError) in
                        try await rpc.call("math", "hold", n, timeout: .seconds(60), as: Int.self)
                    }
                }
            }
            await services.gate.waitForArrivals(5)
            let stopping = Task {
                switch way {
                case .stop: await rpc.stop()
                case .serviceGroup: await group.triggerGracefulShutdown()
                case .largerTree: await app.stop()
                }
            }
            try await eventually("new calls are refused") {
                let start = ContinuousClock.now
                let result = await outcome { () throws(RPCError) in
                    try await rpc.call("math", "add", [1], timeout: .seconds(60), as: Int.self)
                }
                guard case .failure(.notConnected(let why)) = result else { return false }
                #expect(start.duration(to: .now) < .seconds(30))
                return why.contains("stop")
            }
            #expect(rpc.pendingCount == 5)
            services.gate.open()
            for (n, task) in held.enumerated() {
                guard case .success(n) = await task.value else {
                    Issue.record("\(await task.value)")
                    continue
                }
            }
            await stopping.value
            try await running?.value
            #expect(rpc.pendingCount == 0)
            #expect(logs.messages(from: .notice) == [], "an ordinary stop is nothing to notice")
            try await eventually("its reply queue is gone") {
                try await services.broker.queues(virtualHost: services.virtualHost).allSatisfy {
                    !$0.name.hasPrefix("test2.")
                }
            }
        }
    }

    @Test("calls that outlast the drain timeout fail when it is over, and it is said how many")
    func drainTimeout() async throws {
        try await withServices { services in
            let logs = RecordedLogs()
            var configuration = RPCCallerConfiguration(endpoints: [try Endpoint(url: services.url)])
            configuration.drainTimeout = .milliseconds(200)
            let rpc = RPCCaller(
                service: "test2",
                configuration: configuration,
                logger: Logger(label: "test") { _ in logs }
            )
            try await rpc.start()
            let held = Task {
                await outcome { () throws(RPCError) in
                    try await rpc.call("math", "hold", 1, timeout: .seconds(60), as: Int.self)
                }
            }
            await services.gate.waitForArrivals(1)
            await rpc.stop()
            guard case .failure(.callerRestarted(.shutdown, requestMayHaveBeenDelivered: true)) = await held.value
            else {
                Issue.record("\(await held.value)")
                return
            }
            #expect(logs.messages(from: .notice) == ["calls did not end in time"])
        }
    }

    @Test("while it stops, a connection that is lost takes no call with it, as long as another is there")
    func connectionLostWhileStopping() async throws {
        try await withServices { services in
            let rpc = RPCCaller(service: "test2", endpoints: [try Endpoint(url: services.url)], logger: quiet)
            try await rpc.start()
            try await eventually("both connections consume") {
                try await services.broker.queues(virtualHost: services.virtualHost)
                    .contains { $0.name.hasPrefix("test2.") && $0.consumers == 2 }
            }
            let held = (0..<4).map { n in
                Task {
                    await outcome { () throws(RPCError) in
                        try await rpc.call("math", "hold", n, timeout: .seconds(60), as: Int.self)
                    }
                }
            }
            await services.gate.waitForArrivals(4)
            // Otherwise what is unconfirmed on the lost connection is rightly in doubt.
            try await eventually("all are confirmed") {
                try await services.broker.channels(virtualHost: services.virtualHost).allSatisfy { $0.unconfirmed == 0 }
            }
            let stopping = Task { await rpc.stop() }
            for await state in rpc.states where state == .stopping { break }
            let connections = try await services.broker.connections(virtualHost: services.virtualHost)
            let connection = try #require(connections.first { $0.clientName.hasPrefix("test2-caller") })
            try await services.broker.dropConnection(connection.name)
            try await eventually("the broker has noticed") {
                try await services.broker.connections(virtualHost: services.virtualHost)
                    .filter { $0.clientName.hasPrefix("test2-caller") }.count == 1
            }
            services.gate.open()
            for (n, task) in held.enumerated() {
                guard case .success(n) = await task.value else {
                    Issue.record("\(await task.value)")
                    continue
                }
            }
            await stopping.value
        }
    }

    @Test("a rolling restart of the receivers under load loses no call and fails none")
    func rollingRestart() async throws {
        try await withServices(receiver: { $0.concurrency = 20 }) { services in
            let receivers =
                [services.receiver]
                + (0..<2).map { _ in
                    RPCReceiver(
                        service: "math",
                        configuration: services.receiverConfiguration,
                        logger: quiet,
                        procedures: procedures(services.gate)
                    )
                }
            for receiver in receivers.dropFirst() { try await receiver.start() }
            for receiver in receivers { try await receiver.waitUntilReady(timeout: .seconds(90)) }
            let rpc = services.rpc
            let over = Counter()
            let callers = (0..<20).map { caller in
                Task {
                    var calls = 0
                    while over.value == 0 {
                        calls += 1
                        let n = caller * 1_000_000 + calls
                        let result = await outcome { () throws(RPCError) in
                            try await rpc.call("math", "add", [n, 1], timeout: .seconds(60), as: Int.self)
                        }
                        guard case .success(n + 1) = result else {
                            Issue.record("\(result)")
                            break
                        }
                    }
                    return calls
                }
            }
            for _ in 0..<2 {
                for receiver in receivers {
                    await receiver.stop()
                    try await receiver.start()
                    try await receiver.waitUntilReady(timeout: .seconds(90))
                }
            }
            over.next()
            var calls = 0
            for task in callers { calls += await task.value }
            #expect(calls > 100)
            #expect(rpc.pendingCount == 0)
            #expect(rpc.counts.unmatchedReplies == 0, "each was answered once")
            #expect(receivers.reduce(0) { $0 + $1.counts.answered } == calls)
            for receiver in receivers.dropFirst() { await receiver.stop() }
        }
    }
}

/// Keeps what is logged.
final class RecordedLogs: LogHandler, Sendable {
    private let records = Mutex<[(level: Logger.Level, message: String)]>([])

    var metadata: Logger.Metadata {
        get { [:] }
        set {}
    }

    var logLevel: Logger.Level {
        get { .trace }
        set {}
    }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { nil }
        set {}
    }

    func log(event: LogEvent) {
        records.withLock { $0.append((event.level, "\(event.message)")) }
    }

    /// What was logged at this level or above.
    func messages(from level: Logger.Level) -> [String] {
        records.withLock { $0.filter { $0.level >= level }.map(\.message) }
    }
}
