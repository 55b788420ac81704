#if Observer
import AMQPPool
import Foundation
import Hummingbird
import Supervision
import Testing

#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

// snippet.health
/// Answers `GET /live` and `GET /ready`: 200, or 503 and why.
func probes(of parts: [any HealthReporting]) -> Router<BasicRequestContext> {
    let router = Router()
    router.get("live") { _, _ in
        let health = Health(of: parts)
        return EditedResponse(status: health.isLive ? .ok : .serviceUnavailable, response: "\(health)\n")
    }
    router.get("ready") { _, _ in
        let health = Health(of: parts)
        return EditedResponse(status: health.isReady ? .ok : .serviceUnavailable, response: "\(health)\n")
    }
    return router
}
// snippet.end

@Suite("Probes in a server of Hummingbird's")
struct HealthProbeTests {
    private struct Part: HealthReporting {
        var health: Health.Part
    }

    @Test(
        "say 200, or 503 and why",
        arguments: [
            (Health.Part.ready("pool"), 200, 200, "ready"),
            (.notReady("pool", why: "not connected"), 200, 503, "pool: not connected"),
            (.dead("app", why: "gave up"), 503, 503, "app: gave up"),
        ]
    )
    func statuses(_ part: Health.Part, live: Int, ready: Int, text: String) async throws {
        let port = Port()
        let application = Application(
            router: probes(of: [Part(health: part)]),
            configuration: .init(address: .hostname("127.0.0.1", port: 0)),
            onServerRunning: { channel in port.set(channel.localAddress?.port ?? 0) }
        )
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await application.runService(gracefulShutdownSignals: []) }
            let number = await port.value
            for (path, status) in [("live", live), ("ready", ready)] {
                let url = try #require(URL(string: "http://127.0.0.1:\(number)/\(path)"))
                let (body, response) = try await URLSession.shared.data(from: url)
                #expect((response as? HTTPURLResponse)?.statusCode == status)
                #expect(String(decoding: body, as: UTF8.self).contains(text))
            }
            group.cancelAll()
            while let result = await group.nextResult() { _ = result }
        }
    }

    private final class Port: Sendable {
        private let stream: AsyncStream<Int>
        private let continuation: AsyncStream<Int>.Continuation

        init() { (stream, continuation) = AsyncStream.makeStream() }

        func set(_ port: Int) {
            continuation.yield(port)
            continuation.finish()
        }

        var value: Int {
            get async {
                for await port in stream { return port }
                return 0
            }
        }
    }
}
#endif
