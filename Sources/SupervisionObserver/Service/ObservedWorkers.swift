import AMQPPool
import Supervision
import Synchronization

/// The queue workers in the trees, with their rates while somebody watched.
///
/// They are found in snapshots by the type of their actors. Rates are computed from their counts, once a second.
final class ObservedWorkers: Sendable {
    struct Found: Sendable {
        var tree: Int
        var key: String
        var pid: Pid
        var actor: any ObservableWorker

        var place: Place { Place(tree: tree, key: key) }
    }

    struct Place: Hashable, Sendable {
        var tree: Int
        var key: String
    }

    private struct State {
        var rates: [Place: CountRate] = [:]
        var total = CountRate()
        var totals = WorkerTotals()
        var counted: ContinuousClock.Instant?
    }

    /// The maximum number of workers counted each second; of more, only those on screen are sampled.
    static let maximumCounted = 1000

    private let queues = QueueNumbers()
    private let state = Mutex(State())

    /// All workers in a snapshot, in its order.
    static func find(in snapshot: TreeSnapshot, tree: Int, limit: Int = .max) -> [Found] {
        var found: [Found] = []
        // Whether the actors of a type are workers is determined once per type.
        var isWorker: [Bool?] = Array(repeating: nil, count: snapshot.types.count)
        for index in snapshot.nodes.indices {
            guard case .worker(let type) = snapshot.nodes[index].kind, isWorker.indices.contains(type),
                isWorker[type] != false, let pid = snapshot.nodes[index].pid, let actor = pid.actor
            else { continue }
            guard let worker = actor as? any ObservableWorker else {
                isWorker[type] = false
                continue
            }
            isWorker[type] = true
            found.append(Found(tree: tree, key: snapshot.path(index), pid: pid, actor: worker))
            if found.count == limit { break }
        }
        return found
    }

    // MARK: Counting

    private static let shortestPause = Duration.milliseconds(800)

    /// The totals, updated once a second while somebody watches.
    func totals(of workers: () -> [Found]) -> WorkerTotals {
        let now = ContinuousClock.now
        let known = state.withLock { state -> WorkerTotals? in
            if let counted = state.counted, counted.duration(to: now) < Self.shortestPause { return state.totals }
            state.counted = now
            return nil
        }
        return known ?? count(workers(), at: now)
    }

    private func count(_ workers: [Found], at now: ContinuousClock.Instant) -> WorkerTotals {
        var totals = WorkerTotals()
        totals.workers = workers.count
        var handled: [(Place, Int)] = []
        for worker in workers.prefix(Self.maximumCounted) {
            let look = worker.actor.look()
            switch look.activity {
            case .paused: totals.paused += 1
            case .waiting, .tripped: totals.waiting += 1
            case .working: break
            }
            totals.running += look.deliveries.running
            totals.handled += look.counts.handled
            totals.failed += look.counts.failed
            totals.retried += look.counts.retried
            totals.parked += look.counts.parked
            handled.append((worker.place, look.counts.handled))
        }
        return state.withLock { state in
            var rates: [Place: CountRate] = [:]
            var increase = 0
            for (place, count) in handled {
                var rate = state.rates[place] ?? CountRate()
                increase += rate.record(count, at: now)
                rates[place] = rate
            }
            state.rates = rates
            state.total.add(increase, at: now)
            totals.rate = state.total.perSecond
            totals.perSecond = state.total.history
            state.totals = totals
            return totals
        }
    }

    /// Drops the counts, which are useless for later viewers.
    func reset() {
        state.withLock { state in
            state.rates = [:]
            state.total = CountRate()
            state.counted = nil
        }
    }

    // MARK: Showing

    func summary(_ worker: Found) -> WorkerSummary {
        let look = worker.actor.look()
        let rate = state.withLock { $0.rates[worker.place]?.perSecond ?? 0 }
        let counts = look.counts
        return WorkerSummary(
            tree: worker.tree,
            key: worker.key,
            path: DisplayText.line(worker.key, limit: 1000),
            pid: "\(worker.pid)",
            queues: look.queues.prefix(20).map { queue in
                let numbers = numbers(of: queue.name, worker)
                return WorkerSummary.Queue(
                    name: DisplayText.line(queue.name),
                    failed: DisplayText.line(queue.failed),
                    isConsuming: queue.isConsuming,
                    interruption: queue.interruption.map { DisplayText.line($0) },
                    backlog: numbers?.messageCount,
                    consumers: numbers?.consumerCount,
                    keptAsFailed: self.numbers(of: queue.failed, worker)?.messageCount
                )
            },
            state: look.activity.rawValue,
            resumesIn: look.deliveries.tripped?.seconds,
            running: look.deliveries.running,
            concurrency: look.deliveries.concurrency,
            unsettled: look.deliveries.unsettled,
            prefetch: look.prefetch,
            limit: look.deliveries.rate.map { "\($0.count) in \($0.interval)" },
            zombies: look.deliveries.zombies,
            rate: rate,
            handled: counts.handled,
            failed: counts.failed,
            retried: counts.retried,
            parked: counts.parked,
            others: [
                ("rejected", counts.rejected), ("discarded", counts.discarded), ("repeated", counts.repeated),
                ("of unknown type", counts.unhandled),
            ].filter { $0.1 > 0 }.map { ProcessPage.Line(name: $0.0, value: "\($0.1)") }
        )
    }

    private func numbers(of queue: String, _ worker: Found) -> QueueStatus? {
        queues.status(of: "\(worker.tree) \(worker.key) \(queue)") { [actor = worker.actor] in
            await actor.status(ofQueue: queue)
        }
    }
}

extension WorkerLook {
    enum Activity: String {
        case working
        case waiting
        case paused
        case tripped
    }

    var activity: Activity {
        if deliveries.isPaused { return .paused }
        if deliveries.tripped != nil { return .tripped }
        return queues.contains { $0.isConsuming } ? .working : .waiting
    }
}
