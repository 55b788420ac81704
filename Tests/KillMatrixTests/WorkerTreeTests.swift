import AMQPPool
import AMQPTesting
import BrokerSupport
import ChaosSupport
import Foundation
import QueueWorkers
import Supervision
import Testing

/// A tree with workers in it: one that keeps the order of keys and has some of its messages tried again by way of the broker, and one
/// that works in batches.
@Suite("A tree with workers", .timeLimit(.minutes(15)))
struct WorkerTreeTests {
    @Test("handles or parks every message, and keeps the order of a key, whatever ends", arguments: Matrix.shares)
    func matrix(_ share: Int) async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let proxy = try await FaultProxy.start(to: broker)
            let depot = Depot(broker, virtualHost)
            try await Matrix.play(depot.chaos(proxy.url(virtualHost: virtualHost)), "workers", share: share)
            await proxy.shutdown()
        }
    }

    @Test("handles or parks every message, whatever happens to its network and its connections")
    func faults() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let proxy = try await FaultProxy.start(to: broker)
            let depot = Depot(broker, virtualHost)
            let faults =
                Fault.network(proxy, for: .milliseconds(300))
                + Fault.administration(broker, virtualHost: virtualHost).filter { $0.name != "queue-deleted" }
            let chaos = depot.chaos(proxy.url(virtualHost: virtualHost), faults)
            try await Matrix.play("worker-faults") { try await chaos.eachFault() }
            await proxy.shutdown()
        }
    }
}

/// What is published on the queues "ordered" and "batched", and what became of it.
private struct Depot: Sendable {
    struct Parcel: Codable, Sendable {
        var number: Int
        var key: Int
    }

    private struct Contents {
        var last = 0
        /// By key, what was handled, each number when it first was.
        var handled: [Int: [Int]] = [:]
        var batched: Set<Int> = []
        var tried: [Int: Int] = [:]
    }

    private struct Late: DecidingError {
        var failureDecision: FailureDecision { .retryAfter(.seconds(1)) }
    }

    private struct Poisoned: DecidingError {
        var failureDecision: FailureDecision { .park }
    }

    private let view: BrokerView
    private let contents = Shared(Contents())
    private let pools = Latest<AMQPPool>()

    init(_ broker: LocalBroker, _ virtualHost: String) {
        view = BrokerView(broker, virtualHost)
    }

    func chaos(_ url: String, _ faults: [Fault] = []) -> Chaos {
        let depot = self
        return Chaos(
            invariants: [
                Invariant("every message that was confirmed was handled, in the order of its key, or parked") { _ in
                    await depot.publish(many: 30)
                } check: { _, parcels in
                    try await depot.check(parcels)
                }
            ],
            faults: faults,
            timeout: .seconds(180),
            ready: { _ in try await depot.isQuiet() }
        ) {
            try depot.tree(url)
        }
    }

    private func tree(_ url: String) throws -> Supervisor {
        let pool = AMQPPool(configuration: try Services.pool(url), logger: Services.quiet)
        pools.set(pool)
        var settings = WorkerConfiguration()
        settings.drainTimeout = .seconds(3)
        let contents = contents
        return Supervisor("app", strategy: .restForOne, logger: Services.quiet) { [settings] in
            pool.supervisor
            Child.worker(
                of: Parcel.self,
                from: "ordered",
                on: pool,
                retry: .after([.milliseconds(20)]),
                configuration: settings,
                orderedBy: { $0.key }
            ) { parcel, context in
                if parcel.number.isMultiple(of: 11), context.attempt == 1 { throw CancellationError() }
                contents.with { contents in
                    if contents.handled[parcel.key]?.contains(parcel.number) != true {
                        contents.handled[parcel.key, default: []].append(parcel.number)
                    }
                }
            }
            Child.batchWorker(
                of: Parcel.self,
                from: "batched",
                on: pool,
                size: 10,
                within: .milliseconds(50),
                configuration: settings
            ) { batch in
                for message in batch.messages {
                    let number = message.value.number
                    if number.isMultiple(of: 13) {
                        batch.fail(message, with: Poisoned())
                    } else if number.isMultiple(of: 7), message.context.attempt == 1 {
                        batch.fail(message, with: Late())
                    } else {
                        contents.with { _ = $0.batched.insert(number) }
                    }
                }
            }
        }
    }

    /// Published one after another: the order of a key is that of what was confirmed.
    private func publish(many count: Int) async -> Task<[(parcel: Parcel, isConfirmed: Bool)], Never> {
        let parcels = (0..<count).map { _ in
            contents.with { contents in
                contents.last += 1
                return Parcel(number: contents.last, key: contents.last % 3)
            }
        }
        return Task {
            var results: [(Parcel, Bool)] = []
            for parcel in parcels {
                let isConfirmed: Bool
                do {
                    try await pools.value().publish(parcel, to: "ordered", timeout: .seconds(60))
                    try await pools.value().publish(parcel, to: "batched", timeout: .seconds(60))
                    isConfirmed = true
                } catch {
                    isConfirmed = false
                }
                results.append((parcel, isConfirmed))
            }
            return results
        }
    }

    private func check(_ publishing: Task<[(parcel: Parcel, isConfirmed: Bool)], Never>) async throws {
        let results = await publishing.value
        try await isQuiet()
        // What the broker tells of a queue is a little older than what it does, so a message may still be under way.
        let deadline = ContinuousClock.now + .seconds(60)
        let confirmed = Set(results.filter(\.isConfirmed).map(\.parcel.number))
        let batchable = confirmed.filter { !$0.isMultiple(of: 13) }
        while ContinuousClock.now < deadline {
            let isDone = contents.with { contents in
                contents.batched.isSuperset(of: batchable)
                    && confirmed.isSubset(of: contents.handled.values.flatMap(\.self))
            }
            if isDone { break }
            try await Task.sleep(for: .milliseconds(20))
        }
        let contents = contents.with { $0 }
        for (parcel, isConfirmed) in results where isConfirmed {
            let isHandled = contents.handled[parcel.key]?.contains(parcel.number) == true
            try Chaos.require(isHandled, "parcel \(parcel.number) was confirmed and never handled")
            guard !parcel.number.isMultiple(of: 13) else { continue }
            try Chaos.require(contents.batched.contains(parcel.number), "parcel \(parcel.number) is in no batch")
        }
        for (key, numbers) in contents.handled {
            let mine = numbers.filter { confirmed.contains($0) }
            try Chaos.require(mine == mine.sorted(), "key \(key) was handled out of order: \(mine)")
        }
    }

    /// Both consume, and nothing waits but what is parked.
    private func isQuiet() async throws {
        let deadline = ContinuousClock.now + .seconds(60)
        var seen: [String] = []
        repeat {
            seen = (try? await view.lines(replyQueue: nil)) ?? []
            let isConsuming = ["ordered: 1 consumers, 0 messages", "batched: 1 consumers, 0 messages"].allSatisfy {
                seen.contains($0)
            }
            let waits = seen.contains { $0.contains(".retry.") && !$0.hasSuffix(" 0 messages") }
            if isConsuming, !waits { return }
            try await Task.sleep(for: .milliseconds(20))
        } while ContinuousClock.now < deadline
        throw Invariant.Violation("the broker has \(seen)")
    }
}
