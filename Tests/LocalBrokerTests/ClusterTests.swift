import AMQPPool
import BrokerSupport
import LocalBroker
import NIOCore
import Supervision
import Testing

@Suite("A cluster whose nodes are taken away", .serialized)
struct ClusterTests {
    @Test("A quorum queue goes on when the node of its leader is killed, and has all that was confirmed")
    func quorumQueue() async throws {
        try await withCluster { cluster in
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

    @Test(
        "A durable classic queue whose node is down returns what is published, and cannot be declared until it is back"
    )
    func classicQueue() async throws {
        try await withCluster { cluster in
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
            try await withChannel(to: cluster.nodes[0]) { channel in
                let returned = await #expect(throws: AMQPError.self) {
                    try await channel.publish(ByteBuffer(), routingKey: "home", mandatory: true)
                }
                #expect(returned?.replyCode == 312, "\(String(describing: returned))")
                let refused = await #expect(throws: AMQPError.self) {
                    try await channel.declareQueue("home", arguments: QueueArguments(type: .classic))
                }
                #expect(refused?.replyCode == 404)
                #expect("\(String(describing: refused))".contains("down or inaccessible"))
            }
            try await cluster.nodes[1].startAgain()
            try await withChannel(to: cluster.nodes[0]) { channel in
                let status = try await channel.declareQueue("home", arguments: QueueArguments(type: .classic))
                #expect(status.messageCount == 1)
            }
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

private func withCluster(_ body: (LocalBrokerCluster) async throws -> Void) async throws {
    let cluster = try await LocalBrokerCluster.start(nodes: 3, TestBroker.options)
    do {
        try await body(cluster)
    } catch {
        await cluster.shutdown()
        throw error
    }
    await cluster.shutdown()
}

private func withChannel(
    to broker: LocalBroker,
    _ body: (AMQPPool.Channel) async throws -> Void
) async throws {
    let connection = try await AMQPPool.Connection.open(try Endpoint(url: broker.url))
    do {
        try await body(try await connection.openChannel())
    } catch {
        await connection.close()
        throw error
    }
    await connection.close()
}
