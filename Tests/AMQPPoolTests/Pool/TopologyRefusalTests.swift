import BrokerSupport
import LocalBroker
import NIOCore
import Supervision
import Synchronization
import Testing

@testable import AMQPPool

@Suite("A broker that closes the connection instead of doing an operation")
struct TopologyRefusalTests: PeerScript, ChannelDecisions {
    private static let text = "INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated."

    @Test(
        "The operation that it names, or that waits when it names none, fails as refused, with the broker's text",
        arguments: [UInt16(541), 540, 503, 530, 403],
        [true, false]
    )
    func named(_ code: UInt16, _ isNamed: Bool) async throws {
        try await withPeer { peer, connection in
            let channel = try await openChannel(connection, peer)
            let neighbour = try await openChannel(connection, peer, number: 2)
            async let declaring = failure { () async throws(AMQPError) in
                try await channel.declareQueue("jobs", durable: false)
            }
            try await peer.wait { if case .queueDeclare = $0 { true } else { false } }
            let reason = CloseReason(
                replyCode: code,
                replyText: Self.text,
                classID: isNamed ? 50 : 0,
                methodID: isNamed ? 10 : 0
            )
            try await peer.send(.connectionClose(reason))
            let error = await declaring
            guard case .topologyRefused("queue.declare of \"jobs\"", code, Self.text) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(error?.replyCode == code)
            #expect(channel.closedError?.description.contains("jobs") == true)
            #expect(await neighbour.waitUntilClosed()?.description.contains("jobs") == false)
        }
    }

    @Test("Another's method, an operator who closes the connection, and a lost connection are no refusal")
    func notRefused() {
        for (error, cause) in [
            (AMQPError.connectionClosedByBroker(code: 541, text: "x"), UInt32(0x003C_0028)),
            (.connectionClosedByBroker(code: 320, text: "CONNECTION_FORCED"), 0),
            (.connectionLost(reason: "reset"), nil),
            (.connectionClosed, nil),
        ] as [(AMQPError, UInt32?)] {
            var machine = opened()
            _ = machine.run { $0.perform(1, declare("q"), &$1) }
            let actions = machine.run { $0.connectionEnded(error, isClean: false, cause: cause, &$1) }
            #expect(actions.names.contains("1 \(error.name)"), "\(actions.names)")
        }
    }

    @Test("A pool whose declaration it refuses so at the first open ends with its text, also inside a larger tree")
    func firstOpen() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            var configuration = PoolConfiguration(endpoints: [try Endpoint(url: url)])
            configuration.connection = patient()
            configuration.backoff = Backoff(minimum: .milliseconds(5), maximum: .milliseconds(50), jitter: 0)
            let settings = configuration
            @Sendable
            func pool() -> AMQPPool {
                AMQPPool(configuration: settings) { channel in
                    do {
                        try await channel.declareExchange("jobs", type: .custom("x-of-no-plugin"))
                    } catch {
                        // The broker's answer counts, and not what is made of it.
                        throw TookTooLong()
                    }
                }
            }
            let tree = Supervisor("app", intensity: RestartIntensity(0, within: .seconds(1))) { pool().supervisor }
            for run in [{ try await pool().run() }, { try await tree.run() }] as [@Sendable () async throws -> Void] {
                do {
                    try await within(.seconds(60)) { try await run() }
                    Issue.record("ended without an error")
                } catch {
                    // RabbitMQ 4.0 and later close the channel for it, and not the connection.
                    if try await TestBroker.version() < BrokerVersion(4, 0) {
                        #expect("\(error)".contains("exchange.declare of \"jobs\""), "\(error)")
                        #expect("\(error)".contains("503 COMMAND_INVALID - unknown exchange type 'x-of-no-plugin'"))
                    } else {
                        #expect("\(error)".contains("406 PRECONDITION_FAILED - unknown exchange type 'x-of-no-plugin'"))
                    }
                }
            }
        }
    }

    @Test("Once it was open, it goes on trying, and its error has the refusal; when that is over, it is ready again")
    func later() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            var configuration = PoolConfiguration(endpoints: [try Endpoint(url: url)])
            configuration.connections = 1
            configuration.connection = patient()
            configuration.backoff = Backoff(minimum: .milliseconds(5), maximum: .milliseconds(50), jitter: 0)
            let isRefused = Atomic(false)
            let box = Shared(isRefused)
            let pool = AMQPPool(configuration: configuration) { channel in
                guard box.value.load(ordering: .relaxed) else { return }
                try await channel.declareExchange("jobs", type: .custom("x-of-no-plugin"))
            }
            try await pool.start()
            try await pool.waitUntilReady(timeout: .seconds(60))
            box.value.store(true, ordering: .relaxed)
            for connection in try await broker.connections(virtualHost: virtualHost) {
                try await broker.dropConnection(connection.name)
            }
            try await eventually("its error has the refusal") {
                let error = await failure { () async throws(AMQPError) in
                    try await pool.waitUntilReady(timeout: .milliseconds(20))
                }
                return error.map { "\($0)".contains("unknown exchange type 'x-of-no-plugin'") } ?? false
            }
            box.value.store(false, ordering: .relaxed)
            try await pool.waitUntilReady(timeout: .seconds(60))
            await pool.stop()
        }
    }
}

/// An atomic that closures share.
private final class Shared: Sendable {
    let value: Atomic<Bool>
    init(_ value: consuming Atomic<Bool>) { self.value = value }
}
