import BrokerSupport
import LocalBroker
import Testing

@Suite("A broker that is shared by tests")
struct SharedBrokerTests {
    @Test("every use has a virtual host of its own, which is gone afterwards")
    func virtualHosts() async throws {
        let first = try await TestBroker.withVirtualHost { broker, url, virtualHost in
            #expect(url == "amqp://guest:guest@127.0.0.1:\(broker.port)/\(virtualHost)")
            let names = try await broker.virtualHosts()
            #expect(names.contains(virtualHost))
            return virtualHost
        }
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            #expect(virtualHost != first)
            let names = try await broker.virtualHosts()
            #expect(!names.contains(first))
        }
    }

    @Test("the virtual host is deleted also when the test throws")
    func throwing() async throws {
        struct Failure: Error {}
        let seen = Box()
        await #expect(throws: Failure.self) {
            try await TestBroker.withVirtualHost { _, _, virtualHost in
                await seen.set(virtualHost)
                throw Failure()
            }
        }
        let name = try #require(await seen.value)
        try await TestBroker.withVirtualHost { broker, _, _ in
            let names = try await broker.virtualHosts()
            #expect(!names.contains(name))
        }
    }

    @Test("a fresh virtual host has the predeclared exchanges and nothing else")
    func lists() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let exchanges = try await broker.exchanges(virtualHost: virtualHost)
            #expect(exchanges.contains { $0.name == "amq.direct" && $0.type == "direct" && $0.durable })
            #expect(exchanges.contains { $0.name == "amq.headers" && $0.type == "headers" })
            let queues = try await broker.queues(virtualHost: virtualHost)
            #expect(queues.isEmpty)
            let consumers = try await broker.consumers(virtualHost: virtualHost)
            #expect(consumers.isEmpty)
            let bindings = try await broker.bindings(virtualHost: virtualHost)
            #expect(bindings.isEmpty)
            let connections = try await broker.connections(virtualHost: virtualHost)
            #expect(connections.isEmpty)
            let channels = try await broker.channels(virtualHost: virtualHost)
            #expect(channels.isEmpty)
        }
    }

    @Test("a request that makes no sense is refused with the broker's words")
    func refusals() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            await #expect(
                throws: LocalBrokerError.requestFailed(
                    command: "queues",
                    reason: "there is no such virtual host"
                )
            ) { try await broker.queues(virtualHost: "no such") }
            await #expect(
                throws: LocalBrokerError.requestFailed(command: "create-virtual-host", reason: "it exists")
            ) { try await broker.createVirtualHost(virtualHost) }
        }
    }

    @Test("the name of a virtual host is percent-encoded in its URL")
    func url() async throws {
        try await TestBroker.withVirtualHost { broker, _, _ in
            #expect(broker.url(virtualHost: "/").hasSuffix("/%2F"))
            #expect(broker.url(virtualHost: "ä b").hasSuffix("/%C3%A4%20b"))
        }
    }
}

private actor Box {
    private(set) var value: String?

    func set(_ value: String) { self.value = value }
}
