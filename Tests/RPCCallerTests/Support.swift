import AMQPPool
import BrokerSupport
import LocalBroker
import Logging
import RPCCaller
import RPCReceiver
import RPCWire
import Supervision
import Synchronization
import Testing

/// What a test has: a caller and a receiver that are connected, and the broker to ask.
struct Services: Sendable {
    let rpc: RPCCaller
    let receiver: RPCReceiver
    let receiverConfiguration: RPCReceiverConfiguration
    let gate: Gate
    let broker: LocalBroker
    let url: String
    let virtualHost: String

    /// The broker's view of the caller's reply queues.
    func replyQueues() async throws -> [QueueInfo] {
        try await broker.queues(virtualHost: virtualHost).filter { $0.name.hasPrefix("test.replies.") }
    }

    func replyQueueName() throws -> String {
        try #require(rpc.replyQueueName)
    }
}

/// Handlers that the test holds up and lets go.
///
/// Nobody is resumed under the lock: resuming a task waits for whoever is cancelling it, and that may be waiting for the lock in the
/// cancellation handler below.
final class Gate: Sendable {
    private struct State {
        var arrived = 0
        var isOpen = false
        var held: [UInt64: CheckedContinuation<Void, Never>] = [:]
        var cancelled: Set<UInt64> = []
        var lastID: UInt64 = 0
        var watchers: [(count: Int, continuation: CheckedContinuation<Void, Never>)] = []
    }

    private let state = Mutex(State())

    /// How many came in so far.
    var arrived: Int { state.withLock { $0.arrived } }

    /// Holds the handler up, until the gate opens or its task is cancelled.
    func pass() async throws {
        let (id, seen) = state.withLock { state in
            state.arrived += 1
            state.lastID += 1
            let count = state.arrived
            let seen = state.watchers.filter { $0.count <= count }
            state.watchers.removeAll { $0.count <= count }
            return (state.lastID, seen.map { $0.continuation })
        }
        for watcher in seen { watcher.resume() }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let passes = state.withLock { state in
                    if state.isOpen || state.cancelled.contains(id) || Task.isCancelled { return true }
                    state.held[id] = continuation
                    return false
                }
                if passes { continuation.resume() }
            }
        } onCancel: {
            let held = state.withLock { state in
                state.cancelled.insert(id)
                return state.held.removeValue(forKey: id)
            }
            held?.resume()
        }
        try Task.checkCancellation()
    }

    /// Waits until this many have come in.
    func waitForArrivals(_ count: Int) async {
        await withCheckedContinuation { continuation in
            let isSeen = state.withLock { state in
                if state.arrived >= count { return true }
                state.watchers.append((count, continuation))
                return false
            }
            if isSeen { continuation.resume() }
        }
    }

    /// Lets everybody through, now and later.
    func open() {
        let held = state.withLock { state in
            state.isOpen = true
            defer { state.held = [:] }
            return Array(state.held.values)
        }
        for continuation in held { continuation.resume() }
    }
}

let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// The caller "test" and the receiver "math" with their own virtual host, stopped afterwards.
func withServices(
    caller change: (inout RPCCallerConfiguration) -> Void = { _ in },
    receiver changeReceiver: (inout RPCReceiverConfiguration) -> Void = { _ in },
    _ body: (Services) async throws -> Void
) async throws {
    try await TestBroker.withVirtualHost { broker, url, virtualHost in
        try await run(broker: broker, url: url, virtualHost: virtualHost, change, changeReceiver, body)
    }
}

/// The same on a broker of the test's own.
func withServicesOnOwnBroker(
    _ options: LocalBroker.Options = TestBroker.options,
    caller change: (inout RPCCallerConfiguration) -> Void = { _ in },
    receiver changeReceiver: (inout RPCReceiverConfiguration) -> Void = { _ in },
    _ body: (Services) async throws -> Void
) async throws {
    try await TestBroker.own(options) { broker in
        try await run(broker: broker, url: broker.url, virtualHost: "/", change, changeReceiver, body)
    }
}

private func run(
    broker: LocalBroker,
    url: String,
    virtualHost: String,
    _ change: (inout RPCCallerConfiguration) -> Void,
    _ changeReceiver: (inout RPCReceiverConfiguration) -> Void,
    _ body: (Services) async throws -> Void
) async throws {
    let gate = Gate()
    let endpoint = try Endpoint(url: url)
    var receiverConfiguration = RPCReceiverConfiguration(endpoints: [endpoint])
    receiverConfiguration.pool.backoff = Backoff(minimum: .milliseconds(10), maximum: .milliseconds(500), jitter: 1)
    changeReceiver(&receiverConfiguration)
    var callerConfiguration = RPCCallerConfiguration(endpoints: [endpoint])
    callerConfiguration.pool.backoff = Backoff(minimum: .milliseconds(10), maximum: .milliseconds(500), jitter: 1)
    callerConfiguration.timeout = .seconds(30)
    change(&callerConfiguration)
    let receiver = RPCReceiver(
        service: "math",
        configuration: receiverConfiguration,
        logger: quiet,
        procedures: procedures(gate)
    )
    let rpc = RPCCaller(service: "test", configuration: callerConfiguration, logger: quiet)
    let services = Services(
        rpc: rpc,
        receiver: receiver,
        receiverConfiguration: receiverConfiguration,
        gate: gate,
        broker: broker,
        url: url,
        virtualHost: virtualHost
    )
    do {
        try await receiver.start()
        try await rpc.start()
        try await receiver.waitUntilReady(timeout: .seconds(90))
        try await rpc.waitUntilReady(timeout: .seconds(90))
        let consumers = callerConfiguration.pool.connections * callerConfiguration.pool.channelsPerConnection
        if callerConfiguration.replies == .queue {
            try await eventually("every channel of the caller consumes") {
                try await services.replyQueues().map(\.consumers) == [consumers]
            }
        }
        try await eventually("every channel of the caller is ready") {
            try rpc.supervisor.child("registry", as: ChannelRegistry.self).resolve().channels.count == consumers
        }
        try await body(services)
    } catch {
        await rpc.stop()
        gate.open()
        await receiver.stop()
        throw error
    }
    await rpc.stop()
    gate.open()
    await receiver.stop()
}

/// A number that tasks of a test share.
final class Counter: Sendable {
    private let count = Atomic(0)

    var value: Int { count.load(ordering: .acquiring) }

    /// Adds one, and returns what it was before.
    @discardableResult
    func next() -> Int { count.add(1, ordering: .acquiringAndReleasing).oldValue }
}

struct Broken: Error {}

func procedures(_ gate: Gate) -> RPCHandlers {
    RPCHandlers {
        RPCHandler("add") { (args: [Int], _) in args.reduce(0, +) }
        RPCHandler("echo") { (value: JSONValue, _) in value }
        RPCHandler("hold") { (n: Int, _) in
            try await gate.pass()
            return n
        }
        RPCHandler("fail") { (text: String, _) -> Int in throw RPCFailure(code: "mine", message: text, details: [1, 2])
        }
        RPCHandler("crash") { (_: Int, _) -> Int in throw Broken() }
        RPCHandler("nan") { (_: Int, _) in Double.nan }
        RPCHandler("redelivered") { (_: Int, context) in
            try await gate.pass()
            return context.redelivered
        }
        RPCHandler(Declared.negate) { n, _ in -n }
        RPCHandler(Declared.upper) { text, _ in text.uppercased() }
        RPCHandler(Declared.reverse) { bytes, _ in bytes.reversed() }
    }
}

/// What became of a call.
func outcome<Value: Sendable>(_ body: () async throws(RPCError) -> Value) async -> Result<Value, RPCError> {
    do throws(RPCError) {
        return .success(try await body())
    } catch {
        return .failure(error)
    }
}
