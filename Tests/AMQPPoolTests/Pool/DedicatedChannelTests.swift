import BrokerSupport
import LocalBroker
import NIOCore
import Supervision
import Synchronization
import Testing

@testable import AMQPPool

@Suite("A channel of one's own")
struct DedicatedChannelTests {
    private struct Failed: Error {}

    private final class Done: Sendable {
        let count = Atomic(0)
    }

    private func withPool(
        dedicated: Int = 100,
        _ body: @escaping @Sendable (AMQPPool, LocalBroker, String) async throws -> Void
    ) async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            var configuration = PoolConfiguration(endpoints: [try Endpoint(url: url)])
            configuration.maximumDedicatedChannels = dedicated
            configuration.connection = patient()
            configuration.backoff = Backoff(minimum: .milliseconds(5), maximum: .milliseconds(50), jitter: 0)
            let pool = AMQPPool(configuration: configuration)
            try await pool.start()
            do {
                try await pool.waitUntilReady(timeout: .seconds(60))
                try await body(pool, broker, virtualHost)
            } catch {
                await pool.stop()
                throw error
            }
            await pool.stop()
        }
    }

    @Test("It is nobody else's, may fail, and is closed however its body ends")
    func closed() async throws {
        try await withPool { pool, broker, virtualHost in
            let shared = pool.readyChannels
            let isMissing = try await pool.withDedicatedChannel(timeout: .seconds(60)) { channel in
                #expect(!shared.contains { $0 === channel })
                do {
                    try await channel.declareQueue("missing", passive: true)
                    return false
                } catch AMQPError.channelClosedByBroker(code: 404, _) {
                    return true
                }
            }
            #expect(isMissing)
            let leaked = try await pool.withDedicatedChannel { channel in
                try await channel.publish(ByteBuffer(string: "x"), routingKey: "nowhere")
                return channel
            }
            #expect(leaked.closedError != nil)
            await #expect(throws: Failed.self) {
                try await pool.withDedicatedChannel { _ in throw Failed() }
            }
            let entered = Recorder<AMQPChannel>()
            let cancelled = Task {
                try await pool.withDedicatedChannel { channel in
                    entered.append(channel)
                    _ = await channel.waitUntilClosed()
                    try Task.checkCancellation()
                }
            }
            try await entered.wait(for: 1)
            cancelled.cancel()
            await #expect(throws: CancellationError.self) { try await cancelled.value }
            try await eventually("only the pool's own are left") {
                try await broker.channels(virtualHost: virtualHost).count == 2
            }
            try await eventually("the pool's own are untouched") { pool.readyChannels.count == 2 }
        }
    }

    @Test("No more than the limit are open; the others wait for their turn, their deadline or their cancellation")
    func limit() async throws {
        try await withPool(dedicated: 2) { pool, _, _ in
            let gate = Gate()
            let entered = Recorder<Int>()
            let holders = (0..<2).map { number in
                Task {
                    try await pool.withDedicatedChannel(timeout: .seconds(60)) { _ in
                        entered.append(number)
                        try await gate.passed()
                    }
                }
            }
            try await entered.wait(for: 2)
            let start = ContinuousClock.now
            do {
                try await pool.withDedicatedChannel(timeout: .milliseconds(50)) { _ in _ = Issue.record("no place") }
                Issue.record("no place")
            } catch AMQPError.notSent(.overloaded) {}
            #expect(ContinuousClock.now - start < .seconds(30))
            let waiting = Task {
                try await pool.withDedicatedChannel(timeout: .seconds(60)) { _ in _ = Issue.record("cancelled") }
            }
            waiting.cancel()
            do {
                try await waiting.value
                Issue.record("cancelled")
            } catch AMQPError.notSent(.cancelled) {}
            let next = Task {
                try await pool.withDedicatedChannel(timeout: .seconds(60)) { $0.number }
            }
            gate.open()
            for holder in holders { try await holder.value }
            #expect(try await next.value > 0)
        }
    }

    @Test("Thousands of openings that end at any moment leave neither a channel nor a place taken")
    func noLeak() async throws {
        try await withPool(dedicated: 8) { pool, broker, virtualHost in
            let done = Done()
            try await within(.seconds(120)) {
                await withTaskGroup(of: Void.self) { group in
                    for number in 0..<2000 {
                        if number >= 32 { await group.next() }
                        group.addTask {
                            let task = Task {
                                let timeout: Duration = number.isMultiple(of: 2) ? .microseconds(number) : .seconds(60)
                                try await pool.withDedicatedChannel(timeout: timeout) { channel in
                                    if number.isMultiple(of: 5) { throw Failed() }
                                    if number.isMultiple(of: 7) { try await channel.declareQueue("no", passive: true) }
                                }
                            }
                            if number.isMultiple(of: 3) {
                                for _ in 0..<(number % 50) { await Task.yield() }
                                task.cancel()
                            }
                            if case .success = await task.result { done.count.add(1, ordering: .relaxed) }
                        }
                    }
                }
            }
            #expect(done.count.load(ordering: .relaxed) > 0)
            try await eventually("only the pool's own are left") {
                try await broker.channels(virtualHost: virtualHost).count == 2
            }
            // All places are free again.
            let entered = Recorder<Int>()
            try await within(.seconds(60)) {
                await withTaskGroup(of: Void.self) { group in
                    for number in 0..<8 {
                        group.addTask {
                            try? await pool.withDedicatedChannel(timeout: .seconds(60)) { _ in
                                entered.append(number)
                                try await entered.wait(for: 8)
                            }
                        }
                    }
                }
            }
            #expect(entered.values.count == 8)
        }
    }

    @Test("A connection that is blocked, closed or lost is avoided, and one that comes is waited for")
    func avoided() async throws {
        try await withPool { pool, broker, virtualHost in
            for connection in try await broker.connections(virtualHost: virtualHost) {
                try await broker.dropConnection(connection.name)
            }
            for _ in 0..<20 {
                try await pool.withDedicatedChannel(timeout: .seconds(60)) { channel in
                    try await channel.declareQueue("", exclusive: true)
                }
            }
            // The body's channel does not come back: that is the body's to know.
            await #expect(throws: AMQPError.self) {
                try await pool.withDedicatedChannel(timeout: .seconds(60)) { channel in
                    for connection in try await broker.connections(virtualHost: virtualHost) {
                        try await broker.dropConnection(connection.name)
                    }
                    _ = await channel.waitUntilClosed()
                    try await channel.declareQueue("mine")
                }
            }
        }
    }

    @Test("A pool that is stopped, or not started in time, says so")
    func notRunning() async throws {
        let pool = AMQPPool(endpoints: ["amqp://127.0.0.1:1"])
        func failure() async throws -> AMQPError? {
            do {
                try await pool.withDedicatedChannel(timeout: .milliseconds(20)) { _ in }
                return nil
            } catch let error as AMQPError {
                return error
            }
        }
        guard case .notSent(.poolNotRunning) = try await failure() else {
            Issue.record("\(String(describing: try await failure()))")
            return
        }
        try await pool.start()
        guard case .notSent(.notConnected) = try await failure() else {
            Issue.record("\(String(describing: try await failure()))")
            return
        }
        await pool.stop()
        guard case .notSent(.poolNotRunning) = try await failure() else {
            Issue.record("\(String(describing: try await failure()))")
            return
        }
    }

    @Test("Who asks before the pool is started is served when it is")
    func beforeStart() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let pool = AMQPPool(endpoints: [try Endpoint(url: url)])
            let early = Task { try await pool.waitUntilReady(timeout: .seconds(60)) }
            let earlier = Task { try await pool.publish(ByteBuffer(), routingKey: "nowhere", timeout: .seconds(60)) }
            await Task.yield()
            try await pool.start()
            try await early.value
            try await earlier.value
            await pool.stop()
        }
    }
}
