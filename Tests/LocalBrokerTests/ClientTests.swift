import BrokerSupport
import Testing

@testable import LocalBroker

@Suite("What a broker tells of its clients, and does to them")
struct ClientTests {
    @Test("a consumer is seen with its queue, its channel and its connection")
    func consumer() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let client = try await startConsumer(on: broker, virtualHost)

            let queues = try await broker.queues(virtualHost: virtualHost)
            #expect(queues.map(\.name) == ["q"])
            #expect(queues.first?.consumers == 1)
            #expect(queues.first?.durable == true)
            #expect(queues.first?.messages == 0)

            let connections = try await broker.connections(virtualHost: virtualHost)
            #expect(connections.count == 1)
            let connection = try #require(connections.first)
            #expect(connection.clientName == "raw client")
            #expect(connection.name.hasPrefix("127.0.0.1:\(connection.peerPort) -> "))
            #expect(connection.state == "running")
            #expect(connection.channels == 1)
            #expect(connection.heartbeat == 60)
            #expect(connection.clientProperties == ["connection_name": .string("raw client")])

            let consumers = try await broker.consumers(virtualHost: virtualHost)
            #expect(
                consumers == [
                    ConsumerInfo(
                        queue: "q",
                        tag: "tag",
                        acknowledges: true,
                        prefetch: 7,
                        active: true,
                        arguments: [:],
                        connection: connection.name,
                        channel: 1
                    )
                ]
            )

            let channels = try await broker.channels(virtualHost: virtualHost)
            #expect(
                channels == [
                    ChannelInfo(
                        connection: connection.name,
                        number: 1,
                        virtualHost: virtualHost,
                        consumers: 1,
                        unacknowledged: 0,
                        unconfirmed: 0,
                        prefetch: 7,
                        confirms: false
                    )
                ]
            )

            let bindings = try await broker.bindings(virtualHost: virtualHost)
            #expect(
                bindings == [
                    BindingInfo(source: "", destination: "q", destinationKind: "queue", routingKey: "q", arguments: [:])
                ]
            )
            try await client.close()
            try await eventually("it is gone") { try await broker.connections(virtualHost: virtualHost).isEmpty }
        }
    }

    @Test("a connection is closed, or dropped, by its name")
    func closing() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            for drop in [false, true] {
                let client = try await startConsumer(on: broker, virtualHost)
                let connections = try await broker.connections(virtualHost: virtualHost)
                let name = try #require(connections.first?.name)
                if drop {
                    try await broker.dropConnection(name)
                } else {
                    try await broker.closeConnection(name)
                    try await client.close()
                }
                try await client.closed()
                try await eventually("it is gone") { try await broker.connections(virtualHost: virtualHost).isEmpty }
                await #expect(throws: LocalBrokerError.self) { try await broker.dropConnection(name) }
            }
        }
    }

    @Test("deleting a queue takes its consumers away, deleting a virtual host its connections")
    func deleting() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let client = try await startConsumer(on: broker, virtualHost)
            try await broker.deleteQueue("q", virtualHost: virtualHost)
            let queue = try await broker.queue("q", virtualHost: virtualHost)
            #expect(queue == nil)
            try await eventually("no consumer") { try await broker.consumers(virtualHost: virtualHost).isEmpty }
            await #expect(
                throws: LocalBrokerError.requestFailed(
                    command: "delete-queue",
                    reason: "there is none of that name"
                )
            ) { try await broker.deleteQueue("q", virtualHost: virtualHost) }
            try await client.close()
        }
    }

    @Test("the memory alarm is set and cleared")
    func alarm() async throws {
        try await TestBroker.own { broker in
            try await broker.setMemoryAlarm(true)
            let client = try await startConsumer(on: broker, "/")
            let during = try await broker.connections()
            #expect(during.map(\.state) == ["blocking"])
            try await broker.setMemoryAlarm(false)
            try await eventually("it runs") { try await broker.connections().map(\.state) == ["running"] }
            try await client.close()
        }
    }
}

/// A client that consumes the queue "q", which the broker has seen.
private func startConsumer(on broker: LocalBroker, _ virtualHost: String) async throws -> RawClient {
    try await broker.declareQueue("q", virtualHost: virtualHost)
    let client = try await RawClient(
        port: broker.port,
        virtualHost: virtualHost,
        name: "raw client",
        consuming: "q",
        as: "tag"
    )
    try await eventually("it consumes") { try await !broker.consumers(virtualHost: virtualHost).isEmpty }
    return client
}
