#if Observer && os(Linux)
import AMQPPool
import BrokerSupport
import NIOCore
import RPCCaller
import RPCReceiver
import Testing

@testable import SupervisionObserver

@Suite("What the observer shows of a broker")
struct TrafficTests {
    @Test(
        "calls in flight with their age, the queue's backlog, connections and channels, and nothing of what calls carry"
    )
    func traffic() async throws {
        let secret = "TOP-SECRET-4711"
        try await TestBroker.withVirtualHost { _, url, _ in
            let endpoints = [try Endpoint(url: url)]
            let entered = AsyncStream<Void>.makeStream()
            let receiver = RPCReceiver(
                service: "math",
                endpoints: endpoints,
                concurrency: 1,
                logger: Served.quiet
            ) {
                RPCHandler("slow") { (text: String, _) -> String in
                    entered.continuation.yield()
                    try await Task.sleep(for: .seconds(600))
                    return text
                }
                RPCHandler("echo") { (text: String, _) in text + secret }
            }
            let caller = RPCCaller(service: "shop", endpoints: endpoints, logger: Served.quiet)
            let pool = AMQPPool(endpoints: endpoints, connections: 1, logger: Served.quiet)
            try await receiver.start()
            try await caller.start()
            try await pool.start()
            try await receiver.waitUntilReady()
            try await caller.waitUntilReady()
            try await pool.waitUntilReady()
            try await Served.run(callers: [caller], receivers: [receiver], pools: [pool]) { served in
                let following = Task { try await served.client.follow { _ in true } }
                while !caller.observation.isWatched { await Task.yield() }
                let _: String = try await caller.call("math", "echo", secret, timeout: .seconds(60))
                let slow = Task { let _: String = try await caller.call("math", "slow", secret, timeout: .seconds(60)) }
                for await _ in entered.stream { break }
                var page: TrafficPage = try await served.client.get("api/traffic")
                while page.receivers[0].backlog == nil {
                    try await Task.sleep(for: .milliseconds(10))
                    page = try await served.client.get("api/traffic")
                }
                #expect(page.callers[0].state == "ready")
                #expect(page.callers[0].replyConsumers == 2)
                #expect(page.callers[0].sent == 1)
                #expect(page.callers[0].oldest.map(\.procedure) == ["slow"])
                #expect(page.callers[0].oldest[0].remaining > 0)
                #expect(page.callers[0].procedures.map(\.procedure) == ["echo"])
                #expect(page.callers[0].procedures[0].calls.outcomes == ["ok": 1])
                #expect(page.receivers[0].running == 1)
                #expect(page.receivers[0].queue == "math.rpcs")
                #expect(page.receivers[0].consumers == 2)
                #expect(page.receivers[0].oldest.map(\.stage) == ["running"])
                let channels = try #require(page.pools[0].connections.first?.channels)
                #expect(channels.map(\.isConfirming) == [true])
                #expect(
                    page.receivers[0].pool?.connections.flatMap(\.channels).allSatisfy { ($0.prefetch ?? 0) > 0 }
                        == true
                )
                #expect(page.callers[0].pool?.connections.count == 2)
                let text = try await served.client.request("GET", "api/traffic").text
                #expect(!text.contains(secret))
                #expect(!text.contains("guest:guest"))
                let overview: Overview = try await served.client.get("api/overview")
                #expect(overview.trees.map(\.name) == ["app", "caller", "receiver", "amqp-pool"])
                #expect(overview.callers[0].calls?.total == 1)
                #expect(overview.pools[0].state == "ready")
                slow.cancel()
                following.cancel()
                _ = await slow.result
                _ = await following.result
            }
            await pool.stop()
            await caller.stop()
            await receiver.stop()
        }
    }
}
#endif
