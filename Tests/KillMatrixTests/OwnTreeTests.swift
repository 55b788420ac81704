import AMQPPool
import AMQPTesting
import BrokerSupport
import ChaosSupport
import NIOCore
import Supervision
import Testing

/// A tree of a user's own, with a pool and a consumer in it.
@Suite("A tree with a consumer", .timeLimit(.minutes(15)))
struct OwnTreeTests {
    @Test("handles every message that was confirmed, whatever ends", arguments: Matrix.shares)
    func matrix(_ share: Int) async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let proxy = try await FaultProxy.start(to: broker)
            let shelf = Shelf(broker, virtualHost)
            try await Matrix.play(shelf.chaos(proxy.url(virtualHost: virtualHost)), "consumer", share: share)
            await proxy.shutdown()
        }
    }

    @Test("handles every message that was confirmed, whatever happens to its network and its connections")
    func faults() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let proxy = try await FaultProxy.start(to: broker)
            let shelf = Shelf(broker, virtualHost)
            let faults =
                Chaos.Fault.network(proxy, for: .milliseconds(300))
                + Chaos.Fault.administration(broker, virtualHost: virtualHost)
            let chaos = shelf.chaos(proxy.url(virtualHost: virtualHost), faults)
            try await Matrix.play("consumer-faults") { try await chaos.eachFault() }
            await proxy.shutdown()
        }
    }

    @Test("handles every message that was confirmed, whatever happens to its broker")
    func brokerFaults() async throws {
        try await TestBroker.own { broker in
            let shelf = Shelf(broker, "/")
            let chaos = shelf.chaos(
                broker.url,
                Chaos.Fault.broker(broker, for: .milliseconds(300)) + [.brokerWiped(broker)]
            )
            try await Matrix.play("broker-faults") { try await chaos.eachFault() }
        }
    }
}

/// What is published on the queue "shelf", and what is taken from it.
private struct Shelf: Sendable {
    private struct Contents {
        var last = 0
        var handled: Set<Int> = []
    }

    private let view: BrokerView
    private let contents = Shared(Contents())
    private let pools = Latest<AMQPPool>()

    init(_ broker: LocalBroker, _ virtualHost: String) {
        view = BrokerView(broker, virtualHost)
    }

    func chaos(_ url: String, _ faults: [Chaos.Fault] = []) -> Chaos {
        let shelf = self
        return Chaos(
            invariants: [
                Chaos.Invariant("every message that was confirmed was handled") { _ in
                    await shelf.publish(many: 100)
                } check: { scene, messages in
                    try await shelf.check(messages, isLossy: scene.kills.contains { shelf.loses($0) })
                }
            ],
            faults: faults,
            timeout: .seconds(180),
            ready: { _ in try await shelf.isQuiet() }
        ) {
            try shelf.tree(url)
        }
    }

    private func tree(_ url: String) throws -> Supervisor {
        let pool = AMQPPool(configuration: try Services.pool(url), logger: Services.quiet)
        pools.set(pool)
        var settings = ConsumerConfiguration()
        settings.reopenBackoff = Services.backoff
        settings.drainTimeout = .seconds(3)
        let contents = contents
        return Supervisor("app", strategy: .restForOne, logger: Services.quiet) {
            Child("sorter") { _ in Sorter() }
            pool.supervisor
            Child.consumer("shelf", of: "shelf", on: pool, configuration: settings) { channel in
                try await channel.declareQueue("shelf", durable: true)
            } handler: { delivery in
                guard let number = Int(String(buffer: delivery.body)) else { return }
                contents.with { _ = $0.handled.insert(number) }
            }
        }
    }

    /// Publishes that are on their way; each ends with whether its message was confirmed, or else what it knows.
    private func publish(many count: Int) async -> [(number: Int, task: Task<Result<Void, AMQPError>, Never>)] {
        (0..<count).map { _ in
            let number = contents.with { contents in
                contents.last += 1
                return contents.last
            }
            let task = Task { () -> Result<Void, AMQPError> in
                do {
                    try await publish(number: number)
                    return .success(())
                } catch let error as AMQPError {
                    return .failure(error)
                } catch {
                    return .failure(.notConnected([]))
                }
            }
            return (number, task)
        }
    }

    private func check(
        _ messages: [(number: Int, task: Task<Result<Void, AMQPError>, Never>)],
        isLossy: Bool
    ) async throws {
        var results: [(Int, Result<Void, AMQPError>)] = []
        for (number, task) in messages { results.append((number, await task.value)) }
        try await isQuiet()
        let handled = contents.with { $0.handled }
        for (number, result) in results {
            switch result {
            case .success:
                try Chaos.require(
                    handled.contains(number) || isLossy,
                    "message \(number) was confirmed and never handled"
                )
            case .failure(let error):
                try Chaos.require(
                    !error.isRetrySafe || !handled.contains(number),
                    "message \(number) was handled, and \(error) says that it was not sent"
                )
            }
        }
        try await publish(number: 0)
        try await isQuiet()
    }

    private func publish(number: Int) async throws {
        try await pools.value().publish(
            ByteBuffer(string: "\(number)"),
            properties: MessageProperties(deliveryMode: .persistent),
            routingKey: "shelf",
            mandatory: true,
            timeout: .seconds(60)
        )
    }

    private func isQuiet() async throws {
        try await view.becomes(["shelf: 1 consumers, 0 messages", "2 connections, 3 channels"])
    }

    /// The broker may lose what it had confirmed: it was told to delete it, or could not write it down.
    private func loses(_ kill: Chaos.Scenario.Kill) -> Bool {
        ["queue-deleted", "broker-killed", "broker-wiped"].contains(kill.path)
    }
}

/// An actor that does nothing, and without which nothing else may run.
private actor Sorter {}
