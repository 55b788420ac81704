import BrokerSupport
import LocalBroker
import NIOCore
import NIOPosix
import Supervision
import Synchronization
import Testing

@Suite("A proxy that breaks the network")
struct FaultProxyTests {
    @Test("Between faults everything goes through, both ways, to the last byte before the end")
    func transparent() async throws {
        try await withProxy { proxy, server in
            let line = try await Line.open(to: proxy.port)
            let bytes = ByteBuffer(bytes: (0..<5_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31) })
            line.send(bytes)
            line.finish()
            try await eventually("all comes back, and the end") { line.end == .finished }
            #expect(line.received == bytes)
            try await eventually("nothing is left") { await proxy.connections.isEmpty }
            _ = server
        }
    }

    @Test("A client that resets its connection resets the broker's", arguments: [false, true])
    func resetIsTransparent(_ byServer: Bool) async throws {
        try await withProxy { proxy, server in
            let line = try await Line.open(to: proxy.port)
            try await server.has(connections: 1)
            let (resets, other) = byServer ? (server.lines[0], line) : (line, server.lines[0])
            resets.reset()
            try await eventually("the other is reset, too") { other.end == .reset }
        }
    }

    @Test("A cut ends a connection with RST or FIN, on both sides", arguments: FaultProxy.Cut.allCases)
    func cut(_ how: FaultProxy.Cut) async throws {
        try await withProxy { proxy, server in
            let line = try await Line.open(to: proxy.port)
            line.send("a")
            try await eventually("it comes back") { line.received == ByteBuffer(string: "a") }
            await proxy.cut(how)
            let end: Line.End = how == .reset ? .reset : .finished
            try await eventually("the client sees it: \(how)") { line.end == end }
            try await eventually("the server sees it: \(how)") { server.lines[0].end == end }
            line.close()
            server.lines[0].close()
            try await eventually("nothing is left") { await proxy.connections.isEmpty }
            // Those that come later are not affected.
            try await echo(through: proxy)
        }
    }

    @Test(
        "A stalled connection loses nothing, and does not hold up another one",
        arguments: FaultProxy.Direction.allCases
    )
    func stalled(_ direction: FaultProxy.Direction) async throws {
        try await withProxy { proxy, server in
            let line = try await Line.open(to: proxy.port)
            try await server.has(connections: 1)
            let id = try #require(await proxy.connections.first?.id)
            await proxy.set(.stalled, direction, on: .connection(id))
            line.send("a")
            try await echo(through: proxy)
            #expect(line.received.readableBytes == 0)
            if direction == .toClient {
                try await eventually("the server gets it") { server.lines[0].received.readableBytes == 1 }
            } else {
                #expect(server.lines[0].received.readableBytes == 0)
            }
            line.send("b")
            await proxy.heal(on: .connection(id))
            try await eventually("all comes back") { line.received == ByteBuffer(string: "ab") }
        }
    }

    @Test("A stalled receiver is noticed by the sender: it cannot write for ever")
    func backPressure() async throws {
        try await withProxy { proxy, _ in
            await proxy.set(.stalled)
            let line = try await Line.open(to: proxy.port)
            let all = line.send(ByteBuffer(repeating: 1, count: 64 << 20))
            await proxy.set(.healthy, on: .all)
            try await all.get()
            try await eventually("all comes back") { line.received.readableBytes == 64 << 20 }
        }
    }

    @Test("A half-open connection loses everything, and neither side hears of the other's end")
    func halfOpen() async throws {
        try await withProxy { proxy, server in
            let line = try await Line.open(to: proxy.port)
            try await server.has(connections: 1)
            await proxy.set(.halfOpen, on: .open)
            line.send("a")
            // Connections that came later are not affected.
            try await echo(through: proxy)
            #expect(line.received.readableBytes == 0)
            line.close()
            try await echo(through: proxy)
            #expect(server.lines[0].end == nil)
            #expect(server.lines[0].received.readableBytes == 0)
            await proxy.heal()
            try await eventually("bytes are missing, so it is reset") { server.lines[0].end == .reset }
        }
    }

    @Test("With a delay an answer takes twice as long")
    func delayed() async throws {
        try await withProxy { proxy, _ in
            await proxy.set(.delayed(by: .milliseconds(100)))
            let duration = try await ContinuousClock().measure { try await echo(through: proxy) }
            #expect(duration >= .milliseconds(200))
        }
    }

    @Test("With a limit a message takes its time")
    func limited() async throws {
        try await withProxy { proxy, _ in
            await proxy.set(.limited(to: 10_000), .toBroker)
            let line = try await Line.open(to: proxy.port)
            let start = ContinuousClock.now
            line.send(ByteBuffer(repeating: 1, count: 3_000))
            try await eventually("all comes back") { line.received.readableBytes == 3_000 }
            let duration = ContinuousClock.now - start
            let connections = await proxy.connections
            #expect(connections.map(\.bytesToBroker) == [3_000])
            #expect(duration >= .milliseconds(250))
        }
    }

    @Test("New connections can be refused, reset or ignored, without harm to the open ones")
    func newConnections() async throws {
        try await withProxy { proxy, server in
            let old = try await Line.open(to: proxy.port)
            try await server.has(connections: 1)
            try await proxy.setNewConnections(.refused)
            await #expect(throws: (any Error).self) { try await Line.open(to: proxy.port) }
            try await proxy.setNewConnections(.reset)
            // The reset may come while it is still connecting.
            let reset = try? await Line.open(to: proxy.port)
            try await eventually("it is reset") { await proxy.accepted == 2 && (reset == nil || reset?.end == .reset) }
            try await proxy.setNewConnections(.ignored)
            let ignored = try await Line.open(to: proxy.port)
            ignored.send("a")
            // The kernel accepts a connection before the proxy does.
            try await eventually("it has come") { await proxy.accepted == 3 }
            try await proxy.setNewConnections(.accepted)
            try await echo(through: proxy)
            #expect(ignored.end == nil)
            #expect(ignored.received.readableBytes == 0)
            old.send("a")
            try await eventually("the old one goes on") { old.received == ByteBuffer(string: "a") }
            #expect(await proxy.accepted == 4)
        }
    }

    @Test("New connections can be refused and accepted again by several tasks at once")
    func changesAtOnce() async throws {
        try await withProxy { proxy, _ in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<20 {
                    group.addTask {
                        try await proxy.setNewConnections(.refused)
                        try await proxy.setNewConnections(.accepted)
                    }
                }
                try await group.waitForAll()
            }
            try await echo(through: proxy)
        }
    }

    @Test("A broker that is not there: the client is reset")
    func noBroker() async throws {
        let closed = try ClosedPort()
        let proxy = try await FaultProxy.start(toPort: closed.number)
        do {
            let line = try await Line.open(to: proxy.port)
            try await eventually("it is reset") { line.end == .reset }
        } catch let error as NIOConnectionError {
            // So soon that it was not connected yet.
            #expect("\(error)".contains("reset"))
        }
        await proxy.shutdown()
        withExtendedLifetime(closed) {}
    }

    @Test("When it ends, its port is closed and its connections are reset")
    func shutdown() async throws {
        let server = try await EchoServer.start()
        let proxy = try await FaultProxy.start(toPort: server.port)
        let running = Task { try await proxy.run() }
        let line = try await Line.open(to: proxy.port)
        try await server.has(connections: 1)
        await proxy.shutdown()
        try await running.value
        try await eventually("both are reset") { line.end == .reset && server.lines[0].end == .reset }
        try await eventually("nobody listens") { (try? await Line.open(to: proxy.port)) == nil }
        await #expect(throws: LocalBrokerError.shutDown) { try await proxy.setNewConnections(.accepted) }
        await server.stop()
    }

    @Test("Also when nobody refers to it any more")
    func released() async throws {
        let server = try await EchoServer.start()
        let line = try await {
            let proxy = try await FaultProxy.start(toPort: server.port)
            let line = try await Line.open(to: proxy.port)
            try await server.has(connections: 1)
            return line
        }()
        try await eventually("both are reset") { line.end == .reset && server.lines[0].end == .reset }
        await server.stop()
    }

    @Test("Under a supervisor, a killed proxy lets all connections go, and the next one listens on the same port")
    func supervised() async throws {
        let server = try await EchoServer.start()
        let first = try await FaultProxy.start(toPort: server.port)
        let port = first.port
        await first.shutdown()
        let supervisor = Supervisor("network") {
            Child("proxy", onKill: { await $0.shutdown() }) { _ in
                try await FaultProxy.start(toPort: server.port, port: port)
            }
        }
        try await supervisor.start()
        let reference = try supervisor.child("proxy", as: FaultProxy.self)
        let line = try await Line.open(to: port)
        try #require(reference.pid).kill()
        try await eventually("it is reset") { line.end == .reset }
        try await eventually("the next one listens") { (try? await Line.open(to: port)) != nil }
        await supervisor.stop()
        try await eventually("nobody listens") { (try? await Line.open(to: port)) == nil }
        await server.stop()
    }
}

private func withProxy(_ body: (FaultProxy, EchoServer) async throws -> Void) async throws {
    let server = try await EchoServer.start()
    let proxy = try await FaultProxy.start(toPort: server.port)
    do {
        try await body(proxy, server)
    } catch {
        await proxy.shutdown()
        await server.stop()
        throw error
    }
    await proxy.shutdown()
    await server.stop()
}

/// A connection that works: what is sent on it comes back.
private func echo(through proxy: FaultProxy) async throws {
    let line = try await Line.open(to: proxy.port)
    line.send("ping")
    try await eventually("it comes back") { line.received == ByteBuffer(string: "ping") }
    line.close()
}
