import BrokerSupport
import ConcurrencyPrimitives
import LocalBroker
import NIOCore
import Synchronization
import Testing

@testable import AMQPPool

@Suite("States")
struct StatesTests {
    private final class Counters: Sendable {
        let running = Atomic(0)
        let peak = Atomic(0)
    }

    @Test("A pool tells when it connects, is ready, loses its connection, and stops")
    func pool() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let pool = try RunningConsumer.pool(url)
            let seen = Recorder<PoolState>()
            let watching = Task {
                for await state in pool.states { seen.append(state) }
            }
            try await seen.wait(for: 1)
            try await pool.start()
            try await seen.wait { $0.last == .ready }
            try await eventually("it is listed") {
                try await !broker.connections(virtualHost: virtualHost).isEmpty
            }
            for connection in try await broker.connections(virtualHost: virtualHost) {
                try await broker.dropConnection(connection.name)
            }
            try await seen.wait { $0.count { $0 == .ready } == 2 }
            await pool.stop()
            try await seen.wait { $0.last == .stopped }
            watching.cancel()
            await watching.value
            #expect(
                seen.values.prefix(5) == [.stopped, .connecting, .ready, .connecting, .ready]
            )
        }
    }

    @Test("A connection tells when it is blocked, unblocked and closed; then its stream ends")
    func connection() async throws {
        let peer = try await ScriptedPeer.start()
        async let opening = AMQPConnection.open(peer.endpoint, configuration: .patient)
        try await peer.greet()
        let connection = try await opening
        let seen = Recorder<ConnectionState>()
        let watching = Task {
            for await state in connection.states { seen.append(state) }
        }
        try await seen.wait(for: 1)
        try await peer.send(.connectionBlocked(reason: "low on memory"))
        try await seen.wait(for: 2)
        try await peer.send(.connectionUnblocked)
        try await seen.wait(for: 3)
        await peer.stop()
        try await within(.seconds(60)) { await watching.value }
        #expect(seen.values == [.open, .blocked(reason: "low on memory"), .open, .closed])
        // Late: the last state, and the end.
        var late: [ConnectionState] = []
        for await state in connection.states { late.append(state) }
        #expect(late == [.closed])
    }

    @Test("A channel tells when it closes, and when it is closed by whomever; then its stream ends")
    func channel() async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            let seen = Recorder<ChannelState>()
            let watching = Task {
                for await state in channel.states { seen.append(state) }
            }
            try await seen.wait(for: 1)
            await channel.close()
            try await within(.seconds(60)) { await watching.value }
            #expect(seen.values == [.open, .closing, .closed])
            let other = try await connection.openChannel()
            _ = try? await other.declareQueue("absent", passive: true)
            var late: [ChannelState] = []
            for await state in other.states { late.append(state) }
            #expect(late == [.closed])
        }
    }

    @Test("A watcher that does not keep up gets the last states, not all of them")
    func bounded() async {
        let broadcast = StateBroadcast(0)
        let stream = broadcast.stream
        for number in 1...1000 { broadcast.update { number } }
        broadcast.finish(1001)
        var seen: [Int] = []
        for await state in stream { seen.append(state) }
        #expect(seen.count <= StateBroadcast<Int>.limit)
        #expect(seen.last == 1001)
    }

    @Test("No more attempts than the limit run at once, a cancelled one leaves the queue, and every turn comes back")
    func attempts() async throws {
        let limit = ConcurrencyLimit(3)
        let counters = Counters()
        try await within(.seconds(60)) {
            await withTaskGroup(of: Void.self) { group in
                for number in 0..<200 {
                    group.addTask {
                        await withTaskGroup(of: Void.self) { inner in
                            inner.addTask {
                                guard case .admitted = await limit.acquire() else { return }
                                let now = counters.running.add(1, ordering: .relaxed).newValue
                                counters.peak.max(now, ordering: .relaxed)
                                await Task.yield()
                                counters.running.subtract(1, ordering: .relaxed)
                                limit.release()
                            }
                            if number.isMultiple(of: 3) { inner.cancelAll() }
                        }
                    }
                }
            }
            for _ in 0..<3 { #expect(await limit.acquire() == .admitted) }
        }
        #expect((1...3).contains(counters.peak.load(ordering: .relaxed)))
    }

    @Test("Shuffled endpoints are each tried once a round")
    func shuffled() throws {
        let endpoints = (1...8).map { Endpoint(host: "host\($0)") }
        let rotation = try #require(EndpointRotation(endpoints, offset: 3, shuffles: true))
        var orders: Set<[Endpoint]> = []
        for _ in 0..<20 {
            let round = (0..<8).map { _ in rotation.next().0 }
            #expect(Set(round) == Set(endpoints))
            orders.insert(round)
        }
        #expect(orders.count > 1)
    }
}
