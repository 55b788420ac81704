import BrokerSupport
import LocalBroker
import Logging
import NIOCore
import NIOPosix
import Supervision
import Synchronization
import Testing

@testable import AMQPPool

@Suite("The event loops of a pool")
struct EventLoopTests {
    private static let group = MultiThreadedEventLoopGroup(numberOfThreads: 4)

    private func withPool(
        spreads: Bool,
        connections: Int = 4,
        on group: MultiThreadedEventLoopGroup = group,
        _ body: @escaping @Sendable (AMQPPool) async throws -> Void
    ) async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            var configuration = PoolConfiguration(endpoints: [try Endpoint(url: url)])
            configuration.connections = connections
            configuration.spreadsOverEventLoops = spreads
            configuration.connection.eventLoopGroup = group
            let pool = AMQPPool(configuration: configuration)
            try await pool.start()
            do {
                try await eventually("all channels are open") { pool.readyChannels.count == connections }
                try await body(pool)
            } catch {
                await pool.stop()
                throw error
            }
            await pool.stop()
        }
    }

    private func eventLoops(of pool: AMQPPool) -> Int {
        Set(pool.readyChannels.map { ObjectIdentifier($0.eventLoop) }).count
    }

    @Test("The connections of a pool share one event loop")
    func shared() async throws {
        try await withPool(spreads: false) { pool in
            #expect(eventLoops(of: pool) == 1)
            let loop = try #require(pool.readyChannels.first?.eventLoop)
            #expect(PoolConfiguration(endpoints: []).onConnections(of: pool).connection.eventLoopGroup.next() === loop)
        }
    }

    @Test("The connections of a pool that is told to spread run on the event loops of its group")
    func spread() async throws {
        // A group of its own: it hands out its loops in turn, and nobody else must take some of them in between.
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 4)
        try await withPool(spreads: true, on: group) { pool in
            let loops = Set(pool.readyChannels.map { ObjectIdentifier($0.eventLoop) })
            #expect(loops.isSubset(of: group.makeIterator().map { ObjectIdentifier($0) }))
            // Four, unless one of them had to connect twice.
            #expect(loops.count > 1)
        }
        try await group.shutdownGracefully()
    }

    @Test("What prefers the pool's executor runs on the event loop of its connections, before and after it has waited")
    func executor() async throws {
        try await withPool(spreads: false, connections: 2) { pool in
            let loop = try #require(pool.readyChannels.first?.eventLoop)
            try await withTaskExecutorPreference(pool.executor) {
                #expect(loop.inEventLoop)
                try await pool.withChannel { channel in _ = try await channel.declareQueue("here", durable: true) }
                for number in 1...100 {
                    try await pool.publish(ByteBuffer(string: "\(number)"), routingKey: "here", mandatory: true)
                    #expect(loop.inEventLoop)
                }
            }
        }
    }

    @Test("A task on the executor that is cancelled, and one whose publish runs into its deadline, end there")
    func ends() async throws {
        let pool = AMQPPool(configuration: PoolConfiguration(endpoints: [try Endpoint(url: "amqp://127.0.0.1:1")]))
        try await pool.start()
        await withTaskExecutorPreference(pool.executor) {
            await #expect(throws: AMQPError.self) {
                try await pool.publish(ByteBuffer(string: "x"), routingKey: "q", timeout: .milliseconds(50))
            }
            let task = Task { try await pool.publish(ByteBuffer(string: "x"), routingKey: "q", timeout: .seconds(600)) }
            task.cancel()
            await #expect(throws: AMQPError.self) { try await task.value }
        }
        await pool.stop()
    }

    @Test("Whoever holds the event loop for too long is named, and not again within a minute")
    func heldTooLong() {
        let lines = Lines()
        let watch = LoopWatch(logger: Logger(label: "test") { _ in lines.handler })
        let start = NIODeadline.now() - .milliseconds(6)
        watch.ran(since: .now(), "quick")
        #expect(lines.all.isEmpty)
        watch.ran(since: start, "slow")
        watch.ran(since: start, "slow again")
        #expect(lines.all == ["slow held the event loop of the connections: it must not block there"])
    }
}

private final class Lines: Sendable {
    private let lines = Mutex<[String]>([])

    var all: [String] { lines.withLock { $0 } }
    var handler: any LogHandler { Handler(lines: self) }

    private struct Handler: LogHandler {
        let lines: Lines
        var metadata = Logger.Metadata()
        var logLevel = Logger.Level.trace

        init(lines: Lines) { self.lines = lines }

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            lines.lines.withLock { $0.append("\(event.message)") }
        }
    }
}
