import BrokerSupport
import LocalBroker
import NIOCore
import Supervision
import Synchronization
import Testing

@testable import AMQPPool

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#endif

@Suite("Settings that cannot be, and extreme ones")
struct SettingsTests: PeerScript {
    private static let durations: [Duration] = [.zero, .seconds(-1), .seconds(Int64.max), .seconds(Int64.min)]
    private static let numbers = [0, -1, Int.max, Int.min]
    private static var bounds: [(String, WritableKeyPath<ConnectionConfiguration, Int>, minimum: Int)] {
        [
            ("maximumMessageSize", \.maximumMessageSize, 0),
            ("maximumIncomingMessageSize", \.maximumIncomingMessageSize, 0),
            ("maximumUnconfirmed", \.maximumUnconfirmed, 1), ("maximumOutboxEntries", \.maximumOutboxEntries, 1),
            ("maximumOutboxBytes", \.maximumOutboxBytes, 0),
            ("maximumWaitingOperations", \.maximumWaitingOperations, 0),
        ]
    }

    @Test("A frame size that RabbitMQ takes no more is raised to the least that it takes")
    func frameSize() async throws {
        try await withPeer({ $0.maximumFrameSize = 4096 }) { peer, _ in
            try await peer.wait {
                if case .connectionTuneOK(_, frameMax: 8192, _) = $0 { true } else { false }
            }
        }
    }

    @Test(
        "A connection name that does not fit into the handshake is refused by name, by a connection and at a pool's start"
    )
    func longName() async throws {
        let endpoint: Endpoint = "amqp://127.0.0.1:1"
        let name = String(repeating: "n", count: 4000)
        let error = await failure { () async throws(AMQPError) in
            try await AMQPConnection.open(endpoint, configuration: ConnectionConfiguration(name: name))
        }
        guard case .invalidArgument(let text) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(text.contains("connection name is 4000 bytes"))
        var configuration = PoolConfiguration(endpoints: [endpoint])
        configuration.connection.name = name
        try await expectRefusal(of: configuration, "connection name")
    }

    @Test("Fewer channels than are needed are an error at the start: by the URI, by the settings")
    func channelMax() async throws {
        try await expectRefusal(
            of: PoolConfiguration(endpoints: ["amqp://127.0.0.1:1?channel_max=1"]),
            "raise channel_max"
        )
        var configuration = PoolConfiguration(endpoints: ["amqp://127.0.0.1:1"])
        configuration.connection.maximumChannels = 4
        configuration.channelsPerConnection = 4
        try await expectRefusal(of: configuration, "can have 4 channels, but 5 are needed")
        for (connections, channels) in [(Int.max, 1), (1, Int.max), (Int.max, Int.max), (1001, 1)] {
            configuration = PoolConfiguration(endpoints: ["amqp://127.0.0.1:1"])
            configuration.connections = connections
            configuration.channelsPerConnection = channels
            try await expectRefusal(of: configuration, "channelsPerConnection")
        }
        try await expectRefusal(of: PoolConfiguration(endpoints: []), "no endpoints")
    }

    @Test(
        "A bound that would let nothing through, and a backoff that makes no sense, are refused by name at a pool's start"
    )
    func impossibleBounds() async throws {
        for (name, path, minimum) in Self.bounds {
            var configuration = PoolConfiguration(endpoints: ["amqp://127.0.0.1:1"])
            configuration.connection[keyPath: path] = minimum - 1
            try await expectRefusal(of: configuration, "\(name) must be at least \(minimum)")
        }
        for backoff in [
            Backoff(minimum: .seconds(1), maximum: .zero), Backoff(minimum: .seconds(1), maximum: .seconds(-1)),
            Backoff(minimum: .seconds(-1)), Backoff(factor: .nan), Backoff(jitter: 2),
        ] {
            var configuration = PoolConfiguration(endpoints: ["amqp://127.0.0.1:1"])
            configuration.backoff = backoff
            try await expectRefusal(of: configuration, "a backoff's")
        }
        var configuration = PoolConfiguration(endpoints: ["amqp://127.0.0.1:1"])
        configuration.backoff = Backoff(minimum: .zero, maximum: .zero)
        let pool = AMQPPool(configuration: configuration)
        try await pool.start()
        await pool.stop()
    }

    private func expectRefusal(of configuration: PoolConfiguration, _ text: String) async throws {
        let pool = AMQPPool(configuration: configuration)
        do {
            try await within(.seconds(60)) { try await pool.start() }
            Issue.record("started")
        } catch {
            #expect("\(error)".contains(text), "\(error)")
        }
        // Who uses it learns why, and does not wait.
        let error = await failure { () async throws(AMQPError) in try await pool.waitUntilReady(timeout: .seconds(3600))
        }
        #expect("\(String(describing: error))".contains(text), "\(String(describing: error))")
    }

    @Test("A broker that allows fewer channels than are needed ends the pool with an error that says so")
    func tunedChannelMax() async throws {
        let peer = try await ScriptedPeer.start()
        var configuration = PoolConfiguration(endpoints: [peer.endpoint])
        configuration.connections = 1
        configuration.connection = .patient
        let pool = AMQPPool(configuration: configuration)
        async let tuning: Void = peer.tune(channelMax: 1)
        do {
            try await within(.seconds(60)) { try await pool.run() }
            Issue.record("ended without an error")
        } catch {
            #expect("\(error)".contains("can have 1 channels, but 2 are needed: raise channel_max"), "\(error)")
        }
        await peer.stop()
        try await tuning
    }

    @Test("Durations of nothing, below it and beyond all bounds work or are an error", arguments: durations)
    func duration(_ duration: Duration) async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let endpoint = try Endpoint(url: url)
            for path in [
                \ConnectionConfiguration.connectTimeout, \.heartbeat, \.operationTimeout, \.closeTimeout,
            ] {
                var configuration = patient()
                configuration[keyPath: path] = duration
                guard let connection = try? await AMQPConnection.open(endpoint, configuration: configuration) else {
                    continue
                }
                if let channel = try? await connection.openChannel() {
                    _ = try? await channel.publish(ByteBuffer(), routingKey: "nowhere")
                    await channel.close()
                }
                await connection.close()
            }
            let connection = try await AMQPConnection.open(endpoint, configuration: patient())
            let channel = try await connection.openChannel()
            _ = try? await channel.declareQueue("", exclusive: true, timeout: duration)
            _ = try? await channel.publish(ByteBuffer(), routingKey: "nowhere", timeout: duration)
            _ = try? await connection.updateSecret("s", timeout: duration)
            await channel.close(timeout: duration)
            await connection.close(timeout: duration)
            for path in [\PoolConfiguration.channelShutdown, \.killTimeout, \.connection.closeTimeout] {
                var configuration = PoolConfiguration(endpoints: [endpoint])
                configuration.connection = patient()
                configuration[keyPath: path] = duration
                let pool = AMQPPool(configuration: configuration)
                try await pool.start()
                try? await pool.waitUntilReady(timeout: duration)
                try await pool.waitUntilReady(timeout: .seconds(60))
                try? await pool.publish(ByteBuffer(), routingKey: "nowhere", timeout: duration)
                try? await pool.withChannel(timeout: duration) { _ in }
                try? await pool.withDedicatedChannel(timeout: duration) { _ in }
                try? await pool.updateSecret("s", timeout: duration)
                await pool.stop()
            }
        }
    }

    @Test("Numbers of nothing, below it and beyond all bounds work or are an error", arguments: numbers)
    func number(_ number: Int) async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let endpoint = try Endpoint(url: url)
            for (name, path, minimum) in Self.bounds {
                var configuration = patient()
                configuration[keyPath: path] = number
                guard number >= minimum else {
                    let error = await failure { [configuration] () async throws(AMQPError) in
                        try await AMQPConnection.open(endpoint, configuration: configuration)
                    }
                    #expect(
                        "\(String(describing: error))".contains("\(name) must be at least \(minimum), but is \(number)")
                    )
                    continue
                }
                let connection = try await AMQPConnection.open(endpoint, configuration: configuration)
                let channel = try await connection.openChannel()
                let queue = try await channel.declareQueue("", exclusive: true).name
                let body = ByteBuffer(string: "m")
                _ = try? await channel.publish(body, routingKey: queue, timeout: .milliseconds(200))
                _ = try? await channel.get(queue: queue, timeout: .seconds(60))
                await connection.close()
            }
            var configuration = PoolConfiguration(endpoints: [endpoint])
            configuration.connection = patient()
            configuration.maximumDedicatedChannels = number
            if number <= 0 { (configuration.connections, configuration.channelsPerConnection) = (number, number) }
            let pool = AMQPPool(configuration: configuration)
            try await pool.start()
            try await pool.waitUntilReady(timeout: .seconds(60))
            try await pool.withDedicatedChannel { _ in }
            await pool.stop()
        }
    }

    @Test("No process that is started later inherits the socket of a connection")
    func closeOnExec() async throws {
        try await withConnection { connection in
            let flags = try await connection.descriptorFlags()
            #expect(flags.map { $0 & FD_CLOEXEC } == FD_CLOEXEC)
        }
    }

    @Test("A certificate that cannot be read is for nobody")
    func unreadableCertificate() throws {
        let checked = try TLSSession(host: "broker.example", TLSSettings())
        #expect(!checked.accepts(nil))
        var settings = TLSSettings()
        settings.verification = .insecureAnyHost
        #expect(try TLSSession(host: "broker.example", settings).accepts(nil))
    }
}

extension AMQPConnection {
    fileprivate func descriptorFlags() throws -> CInt? {
        try transport?.pipeline.syncOperations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) {
            fcntl($0, F_GETFD)
        }
    }
}
