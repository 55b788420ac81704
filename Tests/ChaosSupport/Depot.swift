import AMQPPool
import AMQPTesting
import QueueWorkers
import Supervision

/// A tree with workers in it, what is published on their queues, and what became of it.
///
///     app                      rest for one
///     |- amqp-pool
///     |- ordered               keeps the order of keys; every 11th message fails at first, and is tried again here
///     |- delayed               every 7th message fails at first, and is tried again by way of the broker
///     `- batched               works in batches; every 7th message is tried again by way of the broker, every 13th is parked
package struct Depot: Sendable {
    struct Parcel: Codable, Sendable {
        var number: Int
        var key: Int
    }

    private struct Contents {
        var last = 0
        /// By key, what was handled, each number when it first was.
        var handled: [Int: [Int]] = [:]
        var delayed: Set<Int> = []
        var batched: Set<Int> = []
        var parked: Set<Int> = []
        var totals: [String: Int] = [:]
        /// Handled again without a word that they may be.
        var unannounced: [String] = []

        mutating func count(_ what: String) { totals[what, default: 0] += 1 }

        /// - Parameter isAgain: whether it was handled before. Only what the broker says may have been delivered before may be, and what is
        ///   tried again: a copy whose confirm is lost is published twice.
        mutating func handled(_ parcel: Parcel, by worker: String, isAgain: Bool, _ context: WorkerContext) {
            count(isAgain ? "\(worker): handled again" : "\(worker): handled")
            if isAgain, !context.redelivered, context.attempt == 1 {
                unannounced.append("\(worker) \(parcel.number)")
            }
        }
    }

    private struct Late: DecidingError {
        var failureDecision: FailureDecision { .retryAfter(.seconds(1)) }
    }

    private struct Poisoned: DecidingError {
        var failureDecision: FailureDecision { .park }
    }

    private static let queues = ["ordered", "delayed", "batched"]

    private let view: BrokerView
    private let intensity: RestartIntensity
    private let contents = Shared(Contents())
    private let pools = Latest<AMQPPool>()

    /// - Parameter intensity: of the root. In a storm nobody gives up because much happens.
    package init(
        _ broker: LocalBroker,
        virtualHost: String,
        intensity: RestartIntensity = RestartIntensity(3, within: .seconds(5))
    ) {
        view = BrokerView(broker, virtualHost)
        self.intensity = intensity
    }

    /// What was published, and what became of it.
    package var totals: [String: Int] { contents.with { $0.totals } }

    /// - Parameter url: of the broker, or of what stands before it.
    package func chaos(_ url: String, _ faults: [Chaos.Fault] = [], leaks: Chaos.LeakCheck = .ofTheTree) -> Chaos {
        let depot = self
        return Chaos(
            invariants: [
                Chaos.Invariant("every message that was confirmed was handled, in the order of its key, or parked") {
                    _ in
                    await depot.publish(many: 30)
                } check: { _, parcels in
                    try await depot.check(parcels)
                }
            ],
            faults: faults,
            timeout: .seconds(180),
            leaks: leaks,
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
        return Supervisor("app", strategy: .restForOne, intensity: intensity, logger: Services.quiet) {
            [settings] in
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
                    let isAgain = contents.handled[parcel.key]?.contains(parcel.number) == true
                    contents.handled(parcel, by: "ordered", isAgain: isAgain, context)
                    if !isAgain { contents.handled[parcel.key, default: []].append(parcel.number) }
                }
            }
            Child.worker(
                of: Parcel.self,
                from: "delayed",
                on: pool,
                retry: .after([.seconds(1), .seconds(1)]),
                configuration: settings
            ) { parcel, context in
                if parcel.number.isMultiple(of: 7), context.attempt == 1 { throw CancellationError() }
                contents.with { contents in
                    let isNew = contents.delayed.insert(parcel.number).inserted
                    contents.handled(parcel, by: "delayed", isAgain: !isNew, context)
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
                        contents.with { contents in
                            contents.parked.insert(number)
                            contents.count("batched: parked")
                        }
                    } else if number.isMultiple(of: 7), message.context.attempt == 1 {
                        batch.fail(message, with: Late())
                    } else {
                        contents.with { contents in
                            let isNew = contents.batched.insert(number).inserted
                            contents.handled(message.value, by: "batched", isAgain: !isNew, message.context)
                        }
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
                    for queue in Self.queues {
                        try await pools.value().publish(parcel, to: queue, timeout: .seconds(60))
                    }
                    isConfirmed = true
                } catch {
                    isConfirmed = false
                }
                results.append((parcel, isConfirmed))
                contents.with { $0.count(isConfirmed ? "published and confirmed" : "published, not confirmed") }
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
        let parkable = confirmed.subtracting(batchable)
        var kept = 0
        while ContinuousClock.now < deadline {
            kept = (try? await view.broker.queue("batched.failed", virtualHost: view.virtualHost))?.messages ?? 0
            let isDone = contents.with { [kept] contents in
                kept >= contents.parked.count && contents.batched.isSuperset(of: batchable)
                    && contents.parked.isSuperset(of: parkable)
                    && contents.delayed.isSuperset(of: confirmed)
                    && confirmed.isSubset(of: contents.handled.values.flatMap(\.self))
            }
            if isDone { break }
            try await Task.sleep(for: .milliseconds(20))
        }
        let contents = contents.with { $0 }
        for (parcel, isConfirmed) in results where isConfirmed {
            let isHandled = contents.handled[parcel.key]?.contains(parcel.number) == true
            try Chaos.require(isHandled, "parcel \(parcel.number) was confirmed and never handled")
            try Chaos.require(
                contents.delayed.contains(parcel.number),
                "parcel \(parcel.number) was never handled after its pause"
            )
            guard !parcel.number.isMultiple(of: 13) else {
                try Chaos.require(contents.parked.contains(parcel.number), "parcel \(parcel.number) was never parked")
                continue
            }
            try Chaos.require(contents.batched.contains(parcel.number), "parcel \(parcel.number) is in no batch")
        }
        try Chaos.require(contents.unannounced.isEmpty, "handled again as if new: \(contents.unannounced)")
        try Chaos.require(
            kept >= contents.parked.count,
            "\(contents.parked.count) messages were parked, and \(kept) are kept"
        )
        for (key, numbers) in contents.handled {
            let mine = numbers.filter { confirmed.contains($0) }
            try Chaos.require(mine == mine.sorted(), "key \(key) was handled out of order: \(mine)")
        }
    }

    /// All consume, and nothing waits but what is parked.
    private func isQuiet() async throws {
        var patience = DrainPatience(.seconds(60), from: .now)
        var seen: [String] = []
        repeat {
            var messages: Int?
            (seen, messages) = (try? await view.look(replyQueue: nil)) ?? ([], nil)
            if let messages { patience.saw(messages, at: .now) }
            let isConsuming = Self.queues.allSatisfy { seen.contains("\($0): 1 consumers, 0 messages") }
            let waits = seen.contains { $0.contains(".retry.") && !$0.hasSuffix(" 0 messages") }
            if isConsuming, !waits { return }
            try await Task.sleep(for: .milliseconds(20))
        } while !patience.isOver(at: .now)
        throw Chaos.Invariant.Violation("the broker has \(seen)")
    }
}
