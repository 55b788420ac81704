import AMQPPool
import BrokerSupport
import LocalBroker
import NIOCore
import Supervision
import Synchronization
import Testing

@Suite("A cluster whose nodes are taken away", .serialized)
struct ClusterTests {
    @Test("A quorum queue goes on when the node of its leader is killed, and has all that was confirmed")
    func quorumQueue() async throws {
        try await TestBroker.withCluster { cluster in
            let arguments = QueueArguments(type: .quorum)
            // On the node that the client is connected to.
            try await withChannel(to: cluster.nodes[0]) { channel in
                try await channel.declareQueue("orders", arguments: arguments)
                for number in 0..<20 {
                    try await channel.publish(ByteBuffer(string: "\(number)"), routingKey: "orders")
                }
            }
            let place = try #require(try await cluster.place(of: "orders"))
            #expect(place.members == [0, 1, 2])
            #expect(place.online == [0, 1, 2])
            #expect(try await cluster.place(of: "never there") == nil)
            let leader = try #require(place.leader)
            try await cluster.nodes[leader].kill()
            try await eventually("the others know") { try await cluster.running().count == 2 }
            try await eventually("there is another leader") {
                guard let next = try await cluster.place(of: "orders") else { return false }
                return next.leader != nil && next.leader != leader && next.online.count == 2
            }
            let other = cluster.nodes[leader == 0 ? 1 : 0]
            try await withChannel(to: other) { channel in
                try await channel.publish(ByteBuffer(string: "20"), routingKey: "orders", mandatory: true)
                #expect(try await channel.declareQueue("orders", arguments: arguments).messageCount == 21)
                for number in 0...20 {
                    let message = try #require(try await channel.get(queue: "orders"))
                    #expect(String(buffer: message.body) == "\(number)")
                }
            }
            // The killed one comes back as a replica.
            try await cluster.nodes[leader].startAgain()
            try await eventually("all three are up") { try await cluster.place(of: "orders")?.online == [0, 1, 2] }
        }
    }

    @Test("While the leader of a quorum queue moves, all that was confirmed is delivered, and nobody gives up")
    func movingLeader() async throws {
        try await TestBroker.withCluster { cluster in
            var configuration = PoolConfiguration(endpoints: try cluster.urls().map { try Endpoint(url: $0) })
            configuration.connections = 3
            configuration.connection.connectTimeout = .seconds(60)
            configuration.connection.operationTimeout = .seconds(60)
            let pool = AMQPPool(configuration: configuration)
            let handled = Mutex<Set<Int>>([])
            let root = Supervisor("app", intensity: RestartIntensity(0, within: .seconds(1))) {
                pool.supervisor
                Child.consumer("consumer", of: "orders", on: pool) { channel in
                    try await channel.declareQueue("orders", arguments: QueueArguments(type: .quorum))
                } handler: { delivery in
                    let number = Int(String(buffer: delivery.body)) ?? -1
                    handled.withLock { _ = $0.insert(number) }
                }
            }
            try await root.start()
            try await pool.withDedicatedChannel(timeout: .seconds(60)) { channel in
                _ = try await channel.declareQueue("orders", arguments: QueueArguments(type: .quorum))
            }
            let (publishers, rounds) = (4, 9)
            let over = Flag()
            let confirmed = try await withThrowingTaskGroup(of: Int.self) { group in
                for publisher in 0..<publishers {
                    group.addTask {
                        var count = 0
                        while !over.isSet {
                            let number = count * publishers + publisher
                            do throws(AMQPError) {
                                try await pool.publish(
                                    ByteBuffer(string: "\(number)"),
                                    routingKey: "orders",
                                    mandatory: true,
                                    timeout: .seconds(60)
                                )
                                count += 1
                            } catch {
                                // A queue that elects its leader refuses messages, and what was under way is in doubt: once more.
                                if case .unconfirmed = error { continue }
                                guard error.isRetrySafe else { throw error }
                            }
                        }
                        return count
                    }
                }
                for round in 0..<rounds {
                    let next = round % cluster.nodes.count
                    try await eventually("node \(next) leads") {
                        try? await cluster.moveLeader(of: "orders", to: next)
                        return try await cluster.place(of: "orders")?.leader == next
                    }
                }
                over.set()
                return try await group.reduce(0, +)
            }
            try await eventually("all that was confirmed is handled") { handled.withLock { $0.count } >= confirmed }
            #expect(confirmed > 0)
            await root.stop()
        }
    }

    @Test(
        "Without a majority of its nodes a cluster confirms and declares nothing; all ends in its time, and goes on when there is one again"
    )
    func withoutMajority() async throws {
        try await TestBroker.withCluster { cluster in
            var settings = PoolConfiguration(endpoints: [try Endpoint(url: cluster.nodes[0].url)])
            settings.connection.connectTimeout = .seconds(60)
            settings.connection.operationTimeout = .seconds(60)
            let pool = AMQPPool(configuration: settings)
            let root = Supervisor("app", intensity: RestartIntensity(0, within: .seconds(1))) { pool.supervisor }
            try await root.start()
            let arguments = QueueArguments(type: .quorum)
            try await pool.withDedicatedChannel(timeout: .seconds(60)) { channel in
                _ = try await channel.declareQueue("orders", arguments: arguments)
            }
            let publish = { (text: String, timeout: Duration) async throws(AMQPError) in
                try await pool.publish(
                    ByteBuffer(string: text),
                    routingKey: "orders",
                    mandatory: true,
                    timeout: timeout
                )
            }
            try await eventually("it takes a message") {
                do throws(AMQPError) {
                    try await publish("before", .seconds(60))
                    return true
                } catch {
                    return !error.isRetrySafe
                }
            }
            for node in 1...2 { try await cluster.nodes[node].kill() }
            try await eventually("it is alone") { try await cluster.running() == [0] }
            let lost = await #expect(throws: AMQPError.self) { try await publish("meanwhile", .seconds(2)) }
            switch lost {
            case .unconfirmed, .nacked: break
            default: Issue.record("\(String(describing: lost))")
            }
            let declares = { (name: String, timeout: Duration) in
                try await pool.withDedicatedChannel(timeout: .seconds(60)) { channel in
                    _ = try await channel.declareQueue(name, arguments: arguments, timeout: timeout)
                }
            }
            // A majority of the nodes has to agree on a quorum queue, on each version; on any other with Khepri.
            await #expect(throws: AMQPError.self) { try await declares("late", .seconds(2)) }
            for node in 1...2 { try await cluster.nodes[node].startAgain() }
            try await eventually("all three are up") { try await cluster.place(of: "orders")?.online == [0, 1, 2] }
            try await eventually("it takes messages again") {
                do throws(AMQPError) {
                    try await publish("after", .seconds(60))
                    return true
                } catch {
                    return false
                }
            }
            try await eventually("it declares queues again") {
                do {
                    try await declares("later", .seconds(60))
                    return true
                } catch is AMQPError {
                    return false
                }
            }
            var texts: Set<String> = []
            try await pool.withDedicatedChannel(timeout: .seconds(60)) { channel in
                while let message = try await channel.get(queue: "orders", noAck: true) {
                    texts.insert(String(buffer: message.body))
                }
            }
            #expect(texts.isSuperset(of: ["before", "after"]), "\(texts)")
            #expect(texts.isSubset(of: ["before", "meanwhile", "after"]), "\(texts)")
            await root.stop()
        }
    }

    @Test("A durable classic queue whose node is down takes nothing, and cannot be declared until it is back")
    func classicQueue() async throws {
        try await TestBroker.withCluster { cluster in
            try await withChannel(to: cluster.nodes[1]) { channel in
                try await channel.declareQueue("home", arguments: QueueArguments(type: .classic))
                try await channel.publish(
                    ByteBuffer(string: "kept"),
                    properties: MessageProperties(deliveryMode: .persistent),
                    routingKey: "home"
                )
            }
            var place = try #require(try await cluster.place(of: "home"))
            #expect(place.leader == 1)
            #expect(place.members == [1])
            #expect(place.online == [1])
            try await cluster.nodes[1].kill()
            try await eventually("the others know") { try await cluster.running() == [0, 2] }
            place = try #require(try await cluster.place(of: "home"))
            #expect(place.leader == 1)
            #expect(place.online == [])
            let isReturned = await cluster.nodes[0].version < BrokerVersion(4, 0)
            try await withChannel(to: cluster.nodes[0]) { channel in
                try await eventually("it is refused as this version does") {
                    do throws(AMQPError) {
                        try await channel.publish(ByteBuffer(), routingKey: "home", mandatory: true)
                        Issue.record("nobody can have taken it")
                        return true
                    } catch {
                        // Until the node has cleaned up after the other one it refuses the message. From RabbitMQ 4.0 on that is all
                        // it does; before, it returns the message then.
                        if case .nacked = error { return !isReturned }
                        #expect(isReturned && error.replyCode == 312, "\(error)")
                        return true
                    }
                }
                let refused = await #expect(throws: AMQPError.self) {
                    try await channel.declareQueue(
                        "home",
                        arguments: QueueArguments(type: .classic),
                        timeout: isReturned ? .seconds(60) : .seconds(2)
                    )
                }
                if isReturned {
                    #expect(refused?.replyCode == 404)
                    #expect("\(String(describing: refused))".contains("down or inaccessible"))
                } else if case .timedOut = refused {
                    // From RabbitMQ 4.0 on the broker waits for the node for a minute before it answers.
                } else {
                    Issue.record("\(String(describing: refused))")
                }
            }
            try await cluster.nodes[1].startAgain()
            try await withChannel(to: cluster.nodes[0]) { channel in
                let status = try await channel.declareQueue("home", arguments: QueueArguments(type: .classic))
                #expect(status.messageCount == 1)
            }
        }
    }

    @Test("Consumers of a durable classic queue wait while its node is down, and come back with it")
    func classicConsumer() async throws {
        try await TestBroker.withCluster { cluster in
            try await withChannel(to: cluster.nodes[1]) { channel in
                try await channel.declareQueue("home", arguments: QueueArguments(type: .classic))
            }
            var settings = PoolConfiguration(endpoints: [try Endpoint(url: cluster.nodes[0].url)])
            settings.backoff = Backoff(minimum: .milliseconds(10), maximum: .milliseconds(100))
            let pool = AMQPPool(configuration: settings)
            var configuration = ConsumerConfiguration()
            configuration.reopenBackoff = Backoff(minimum: .milliseconds(10), maximum: .milliseconds(100))
            let (handled, continuation) = AsyncStream.makeStream(of: String.self)
            let root = Supervisor("app", intensity: RestartIntensity(0, within: .seconds(1))) { [configuration] in
                pool.supervisor
                Child.consumer("consumer", of: "home", on: pool, configuration: configuration) { channel in
                    try await channel.declareQueue("home", arguments: QueueArguments(type: .classic))
                } handler: { delivery in
                    continuation.yield(String(buffer: delivery.body))
                }
            }
            try await root.start()
            let persistent = MessageProperties(deliveryMode: .persistent)
            var messages = handled.makeAsyncIterator()
            try await pool.publish(
                ByteBuffer(string: "before"),
                properties: persistent,
                routingKey: "home",
                mandatory: true,
                timeout: .seconds(60)
            )
            #expect(await messages.next() == "before")
            try await cluster.nodes[1].kill()
            try await eventually("the others know") { try await cluster.running() == [0, 2] }
            let answers = await cluster.nodes[0].version < BrokerVersion(4, 0)
            let refused = await #expect(throws: AMQPError.self) {
                try await pool.withDedicatedChannel(timeout: .seconds(60)) { channel in
                    try await channel.declareQueue(
                        "home",
                        arguments: QueueArguments(type: .classic),
                        timeout: answers ? .seconds(60) : .seconds(2)
                    )
                }
            }
            if case .timedOut = refused {
                #expect(!answers)
            } else {
                #expect(refused?.isQueueNodeDown == true)
            }
            let other = await #expect(throws: AMQPError.self) {
                try await pool.withDedicatedChannel(timeout: .seconds(60)) { channel in
                    try await channel.declareQueue("never there", passive: true)
                }
            }
            #expect(other?.replyCode == 404 && other?.isQueueNodeDown == false)
            try await cluster.nodes[1].startAgain()
            try await eventually("the message is taken") {
                do {
                    try await pool.publish(
                        ByteBuffer(string: "after"),
                        properties: persistent,
                        routingKey: "home",
                        mandatory: true,
                        timeout: .seconds(60)
                    )
                    return true
                } catch AMQPError.returned, AMQPError.nacked {
                    return false
                }
            }
            // What was not acknowledged when the node was killed may come again.
            var next = await messages.next()
            while next == "before" { next = await messages.next() }
            #expect(next == "after")
            await root.stop()
        }
    }

    @Test("All nodes can be stopped and started again, and nothing is left of them in the end")
    func restart() async throws {
        let cluster = try await LocalBrokerCluster.start(nodes: 2, TestBroker.options)
        let folders = cluster.nodes.map(\.folder)
        let running = Task { try await cluster.run() }
        for node in cluster.nodes { await node.stop() }
        await #expect(throws: LocalBrokerError.notRunning) { try await cluster.running() }
        try await cluster.startAgain()
        #expect(try await cluster.running() == [0, 1])
        await cluster.shutdown()
        try await running.value
        for folder in folders { #expect(remains(of: folder) == []) }
    }
}

private func withChannel(
    to broker: LocalBroker,
    _ body: (AMQPChannel) async throws -> Void
) async throws {
    var configuration = ConnectionConfiguration()
    configuration.connectTimeout = .seconds(60)
    configuration.operationTimeout = .seconds(60)
    let connection = try await AMQPConnection.open(try Endpoint(url: broker.url), configuration: configuration)
    do {
        try await body(try await connection.openChannel())
    } catch {
        await connection.close()
        throw error
    }
    await connection.close()
}

private final class Flag: Sendable {
    private let state = Atomic(false)

    var isSet: Bool { state.load(ordering: .acquiring) }

    func set() { state.store(true, ordering: .releasing) }
}
