#if os(Linux)
import BrokerSupport
import Foundation
import LocalBroker
import Testing

@Suite("rpc serve, when it is told to stop", .serialized)
struct StopTests {
    /// Waits until the broker has delivered one request that is not acknowledged.
    private func isDelivered(_ broker: LocalBroker, _ virtualHost: String) async throws {
        let end = ContinuousClock.now + .seconds(60)
        while try await broker.queue("math.rpcs", virtualHost: virtualHost)?.unacknowledged != 1 {
            try #require(ContinuousClock.now < end, "no request is being worked on")
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    /// Waits until the receiver works on one request. A delivered one may not have been read yet: an answer to a later one tells.
    private func isWorking(_ broker: LocalBroker, _ url: String, _ virtualHost: String) async throws {
        try await isDelivered(broker, virtualHost)
        let later = try await rpc("call", "math", "echo", "1", "--timeout", "60", "--url", url)
        try #require(later.code == 0, "\(later)")
        try await isDelivered(broker, virtualHost)
    }

    @Test("answers the call that is running, and exits with 0", arguments: [SIGTERM, SIGINT])
    func graceful(_ signal: Int32) async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            try await whileServing(url: url) { server in
                let call = try RunningTool(["call", "math", "sleep", "12", "--timeout", "120", "--url", url])
                try await isWorking(broker, url, virtualHost)
                server.signal(signal)
                await server.says("stopping: answering 1 running requests")
                let answered = await call.ending()
                #expect(answered.code == 0, "\(answered)")
                #expect(answered.output == "12\n")
                let stopped = await server.ending()
                #expect(stopped.code == 0, "\(stopped)")
                #expect(stopped.output == "")
                let queue = try #require(try await broker.queue("math.rpcs", virtualHost: virtualHost))
                #expect(queue.consumers == 0)
                #expect(queue.messages == 0)
            }
        }
    }

    @Test("ends at once at the second signal; the request goes to another receiver", arguments: [SIGTERM, SIGINT])
    func forced(_ signal: Int32) async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            try await whileServing(url: url) { server in
                let call = try RunningTool(["call", "math", "sleep", "12", "--timeout", "120", "--url", url])
                try await isWorking(broker, url, virtualHost)
                server.signal(signal)
                await server.says("stopping: answering 1 running requests")
                server.signal(signal)
                // Had it waited for the request, it would have exited with 0.
                let stopped = await server.ending()
                #expect(stopped.code == 130, "\(stopped)")
                try await whileServing(url: url) { _ in
                    let answered = await call.ending()
                    #expect(answered.code == 0, "\(answered)")
                    #expect(answered.output == "12\n")
                }
            }
        }
    }

    @Test("kill -9 in the middle of a request: another receiver gets it, and the call is answered once")
    func killed() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            try await whileServing(url: url) { server in
                let call = try RunningTool(["call", "math", "sleep", "3", "--timeout", "120", "--url", url])
                try await isDelivered(broker, virtualHost)
                try await whileServing(url: url) { _ in
                    server.signal(SIGKILL)
                    let ended = await server.ending()
                    #expect(ended.code == -SIGKILL)
                    let answered = await call.ending()
                    #expect(answered.code == 0, "\(answered)")
                    #expect(answered.output == "3\n")
                    let queue = try #require(try await broker.queue("math.rpcs", virtualHost: virtualHost))
                    #expect(queue.messages == 0, "nobody gets it a third time")
                }
            }
        }
    }

    @Test("also stops when it never reached a broker")
    func neverConnected() async throws {
        let server = try RunningTool(["serve", "math", "--url", "amqp://127.0.0.1:1"])
        await server.says("cannot connect to amqp://127.0.0.1:1: connection refused")
        await server.says("receiver cannot connect")
        server.signal(SIGTERM)
        let stopped = await server.ending()
        #expect(stopped.code == 0, "\(stopped)")
    }
}
#endif
