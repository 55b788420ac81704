import AMQPPool
import Logging
import RPCCaller
import RPCReceiver
import RPCWire
import Supervision
import Synchronization

#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// Observes trees, callers, receivers and pools for viewers.
///
/// Without viewers it receives failure events only. A snapshot of a tree is created on demand and shared by all requests shortly after; how
/// shortly depends on its cost, so that observing a very large tree takes a bounded part of a core.
final class Observation: Sendable {
    /// A snapshot is reused for this many times as long as it took to create.
    private static let restFactor = 40
    private static let shortestRest = Duration.milliseconds(200)

    struct Tree: Sendable {
        let name: String
        let supervisor: Supervisor
        /// Whether it was listed explicitly, instead of found with a caller, receiver or pool: those may be part of another tree, and are
        /// left out while they do not run by themselves.
        let isNamed: Bool
        let mayPlayKillMatrix: Bool
    }

    private struct Cached: Sendable {
        var snapshot: TreeSnapshot
        var taken: ContinuousClock.Instant
        var rest: Duration
    }

    private struct State {
        var timeLine = TimeLine()
        var cached: [Int: Cached] = [:]
        var watchers = 0
        /// Stops the counting when no viewer has come back.
        var grace: Task<Void, Never>?
        var isCounting = false
        /// Subscriptions made before the observation began.
        var subscribed: [Int: SupervisionEvents] = [:]
        /// Whether the observation is running.
        var isListening = false
        /// Runs the observation while there are viewers, if nobody else does.
        var listening: Task<Void, Never>?
    }

    let trees: [Tree]
    let callers: [RPCCaller]
    let receivers: [RPCReceiver]
    let pools: [AMQPPool]
    let shown: ShownErrors
    let permission: ObserverPermission
    /// How long calls are still counted after the last viewer has gone.
    private let statisticsGrace: Duration
    let logger: Logger
    /// The queues of the receivers.
    private let queues = QueueNumbers()
    private let workers = ObservedWorkers()
    private let began = ContinuousClock.now
    private let state = Mutex(State())
    /// Receives each event.
    let broadcast: ViewerBroadcast

    init(
        trees: [Tree],
        callers: [RPCCaller],
        receivers: [RPCReceiver],
        pools: [AMQPPool],
        shown: ShownErrors,
        permission: ObserverPermission,
        maximumViewers: Int,
        statisticsGrace: Duration = .seconds(60),
        logger: Logger
    ) {
        self.trees = trees
        self.callers = callers
        self.receivers = receivers
        self.pools = pools
        self.shown = shown
        self.permission = permission
        self.statisticsGrace = statisticsGrace
        self.logger = logger
        broadcast = ViewerBroadcast(maximumViewers: maximumViewers)
    }

    // MARK: Listening

    /// Observes the trees until the task is cancelled. Does nothing if it is already running.
    func run() async {
        let isFree = state.withLock { state in
            defer { state.isListening = true }
            return !state.isListening
        }
        guard isFree else { return }
        defer { state.withLock { $0.isListening = false } }
        await withTaskGroup(of: Void.self) { group in
            for (index, tree) in trees.enumerated() {
                group.addTask { await self.follow(tree, index) }
            }
            group.addTask { await self.tick() }
        }
    }

    /// Subscribes to the running trees, so that no later event is missed.
    func subscribe() {
        let events = trees.map { $0.supervisor.events(.failures) }
        state.withLock { state in
            for (index, events) in events.enumerated() { state.subscribed[index] = events }
        }
    }

    /// A tree may be started after the observer, and again after its end.
    private func follow(_ tree: Tree, _ index: Int) async {
        while !Task.isCancelled {
            let subscribed = state.withLock { $0.subscribed.removeValue(forKey: index) }
            if let events = subscribed ?? tree.supervisor.events(.failures) {
                broadcast.addListener(events, index)
                for await event in events { heard(event, index) }
                broadcast.removeListener(index)
                state.withLock { _ = $0.cached.removeValue(forKey: index) }
            }
            try? await Task.sleep(for: .milliseconds(500))
        }
    }

    private func heard(_ event: SupervisionEvent, _ index: Int) {
        let now = Self.milliseconds
        let document = state.withLock { state in
            // A cheap snapshot is created again; an expensive one is reused.
            if state.cached[index]?.rest == Self.shortestRest { state.cached[index] = nil }
            return state.timeLine.add(event, tree: index, key: event.path, time: now, shown: shown)
        }
        broadcast.publish(document)
    }

    /// Publishes an event of the observer itself.
    func record(tree: Int, path: String, key: String, kind: String, reason: String, isExpected: Bool = true) {
        let now = Self.milliseconds
        let document = state.withLock { state in
            state.timeLine.add(
                EventDocument(
                    number: 0,
                    time: now,
                    tree: tree,
                    path: path,
                    key: key,
                    kind: kind,
                    reason: DisplayText.line(reason),
                    isExpected: isExpected
                )
            )
        }
        broadcast.publish(document)
    }

    /// Sends the overview to everybody, once a second while somebody watches.
    private func tick() async {
        while !Task.isCancelled {
            if await broadcast.waitForViewers() {
                broadcast.publish(overview())
            }
            try? await Task.sleep(for: .seconds(1))
        }
    }

    // MARK: Watching

    /// A viewer has come: calls are counted.
    func beginWatching() {
        let (isFirst, isListening, startsCounting, grace) = state.withLock { state in
            state.watchers += 1
            defer {
                if state.watchers == 1 {
                    state.isCounting = true
                    state.grace = nil
                }
            }
            return (state.watchers == 1, state.isListening, !state.isCounting, state.grace)
        }
        guard isFirst else { return }
        grace?.cancel()
        if !isListening {
            let task = Task.detached { [self] in await run() }
            state.withLock { $0.listening = task }
        }
        if startsCounting { setCounting(true) }
        broadcast.listen(to: .everything)
    }

    func endWatching() {
        let (isLast, listening) = state.withLock { state -> (Bool, Task<Void, Never>?) in
            state.watchers -= 1
            guard state.watchers == 0 else { return (false, nil) }
            defer { state.listening = nil }
            return (true, state.listening)
        }
        guard isLast else { return }
        listening?.cancel()
        broadcast.listen(to: .failures)
        let grace = Task.detached { [self] in
            try? await Task.sleep(for: statisticsGrace)
            endCounting()
        }
        let isBack = state.withLock { state in
            if state.watchers == 0 { state.grace = grace }
            return state.watchers > 0
        }
        if isBack { grace.cancel() }
    }

    /// A viewer that reloads the page still finds the numbers of the last minute.
    private func endCounting() {
        let ends = state.withLock { state in
            guard state.watchers == 0, state.isCounting, !Task.isCancelled else { return false }
            state.isCounting = false
            state.grace = nil
            return true
        }
        if ends { setCounting(false) }
    }

    private func setCounting(_ isOn: Bool) {
        for observation in callers.map(\.observation) + receivers.map(\.observation) {
            if isOn { observation.watch() } else { observation.unwatch() }
        }
        if !isOn { workers.reset() }
    }

    // MARK: Snapshots

    func snapshot(_ tree: Int) -> TreeSnapshot? {
        guard trees.indices.contains(tree) else { return nil }
        let now = ContinuousClock.now
        if let cached = state.withLock({ $0.cached[tree] }), cached.taken.duration(to: now) < cached.rest {
            return cached.snapshot
        }
        return freshSnapshot(tree)
    }

    /// For actions, which need a current snapshot.
    func freshSnapshot(_ tree: Int) -> TreeSnapshot? {
        guard trees.indices.contains(tree) else { return nil }
        let begun = ContinuousClock.now
        let snapshot = trees[tree].supervisor.snapshot() ?? TreeSnapshot()
        let taken = ContinuousClock.now
        let rest = max(Self.shortestRest, begun.duration(to: taken) * Self.restFactor)
        state.withLock { $0.cached[tree] = Cached(snapshot: snapshot, taken: taken, rest: rest) }
        return snapshot
    }

    func page(_ request: TreeRequest) -> TreePage? {
        snapshot(request.tree).map { TreeView(snapshot: $0, shown: shown).page(request) }
    }

    func events(after number: UInt64, tree: Int?, key: String?, limit: Int) -> EventPage {
        state.withLock { $0.timeLine.page(after: number, tree: tree, key: key, limit: min(max(0, limit), 1000)) }
    }

    func process(tree: Int, key: String) async -> ProcessPage? {
        guard let snapshot = snapshot(tree), let index = snapshot.index(of: key) else { return nil }
        let inspection = trees[tree].supervisor.inspect(key) ?? ProcessInspection()
        let view = TreeView(snapshot: snapshot, shown: shown)
        var places: [Pid: Int] = [:]
        if !inspection.links.isEmpty {
            for index in snapshot.nodes.indices { if let pid = snapshot.nodes[index].pid { places[pid] = index } }
        }
        let (history, events) = state.withLock { state in
            (
                state.timeLine.history(tree: tree, key: key),
                state.timeLine.page(tree: tree, key: key, limit: 100).events
            )
        }
        var page = ProcessPage(
            tree: tree,
            path: DisplayText.line(snapshot.path(index), limit: 1000),
            row: view.row(index),
            specification: inspection.specification.map { .init(name: $0.name, value: DisplayText.line($0.value)) },
            links: inspection.links.map { pid in
                let place = places[pid]
                return .init(
                    pid: "\(pid)",
                    path: place.map { DisplayText.line(snapshot.path($0), limit: 1000) },
                    key: place.map { snapshot.path($0) }
                )
            },
            monitors: inspection.monitors,
            names: inspection.names.map {
                .init(name: DisplayText.line($0.name), value: DisplayText.line($0.registry))
            },
            history: history,
            events: events
        )
        if let pid = snapshot.nodes[index].pid, let actor = pid.actor as? any ObservableWorker {
            page.worker = workers.summary(.init(tree: tree, key: key, pid: pid, actor: actor))
        }
        guard inspection.reportsState, let pid = inspection.pid else { return page }
        do {
            page.description = Self.lines(try await pid.stateReport(timeout: .seconds(1)))
        } catch CallError.timeout {
            page.descriptionProblem = "it did not answer within a second"
        } catch {
            page.descriptionProblem = "it has ended"
        }
        return page
    }

    /// The state that an actor shows, bounded in size.
    static func lines(_ report: StateReport) -> [ProcessPage.Line] {
        let summary = report.summary.isEmpty ? [] : [StateReport.Field(name: "state", value: report.summary)]
        return (summary + report.fields).prefix(32).map { field in
            ProcessPage.Line(
                name: DisplayText.line(field.name, limit: 100),
                value: DisplayText.line(field.value, limit: 200)
            )
        }
    }

    // MARK: Summaries

    static var milliseconds: Int64 { Int64(Date().timeIntervalSince1970 * 1000) }

    func overview() -> Overview {
        let (lastEvent, viewers) = (state.withLock { $0.timeLine.lastNumber }, broadcast.count)
        let now = CompactInstant.now
        return Overview(
            time: Self.milliseconds,
            processID: Int(ProcessInfo.processInfo.processIdentifier),
            host: DisplayText.line(ProcessInfo.processInfo.hostName, limit: 100),
            uptime: began.duration(to: .now).seconds,
            lastEvent: lastEvent,
            allowsActions: permission.allowsActions,
            viewers: viewers,
            trees: trees.indices.compactMap { index in
                let snapshot = snapshot(index) ?? TreeSnapshot()
                guard trees[index].isNamed || !snapshot.nodes.isEmpty else { return nil }
                return TreeView(snapshot: snapshot, shown: shown)
                    .summary(id: index, name: trees[index].name, mayPlayKillMatrix: trees[index].mayPlayKillMatrix)
            },
            callers: callers.enumerated().map { index, caller in
                let look = caller.look(oldest: 0)
                return CallerSummary(
                    id: index,
                    service: DisplayText.line(look.service),
                    state: "\(look.state)",
                    inFlight: look.waiting + look.submitted,
                    calls: look.statistics.map { RateSummary($0.summary(at: now)) },
                    perSecond: look.statistics?.perSecond(at: now) ?? []
                )
            },
            receivers: receivers.enumerated().map { index, receiver in
                let look = receiver.look(oldest: 0)
                return ReceiverSummary(
                    id: index,
                    service: DisplayText.line(look.service),
                    state: "\(look.state)",
                    running: look.running,
                    concurrency: look.concurrency,
                    requests: look.statistics.map { RateSummary($0.summary(at: now)) },
                    perSecond: look.statistics?.perSecond(at: now) ?? []
                )
            },
            pools: pools.enumerated().map { index, pool in
                PoolSummary(
                    id: index,
                    name: DisplayText.line(pool.supervisor.tree().name),
                    state: "\(pool.channelRegistry?.poolState ?? .stopped)"
                )
            },
            workers: workers.totals { foundWorkers }
        )
    }

    // MARK: Workers

    private var foundWorkers: [ObservedWorkers.Found] {
        trees.indices.flatMap { tree in
            snapshot(tree).map { ObservedWorkers.find(in: $0, tree: tree) } ?? []
        }
    }

    /// - Parameter query: Only workers with this in their path or the name of a queue.
    func workers(query: String, offset: Int, limit: Int) -> WorkersPage {
        let all = foundWorkers
        let words = query.lowercased().split(separator: " ").prefix(8).map { String($0.prefix(100)) }
        let matching =
            words.isEmpty
            ? all
            : all.filter { worker in
                let text = ([worker.key] + worker.actor.look().queues.map(\.name)).joined(separator: " ").lowercased()
                return words.allSatisfy { text.contains($0) }
            }
        let offset = min(max(0, offset), matching.count)
        let page = matching[offset...].prefix(min(max(0, limit), WorkersPage.maximumLimit))
        return WorkersPage(
            workers: all.count,
            matches: matching.count,
            offset: offset,
            page: page.map { workers.summary($0) }
        )
    }

    func traffic() async -> TrafficPage {
        let now = CompactInstant.now
        var page = TrafficPage(callers: [], receivers: [], pools: [])
        for (index, caller) in callers.enumerated() {
            let look = caller.look()
            page.callers.append(
                TrafficPage.Caller(
                    id: index,
                    service: DisplayText.line(look.service),
                    state: "\(look.state)",
                    replyQueue: look.replyQueue.map { DisplayText.line($0) },
                    replyConsumers: look.replyConsumers,
                    waiting: look.waiting,
                    sent: look.submitted,
                    maximumInFlight: look.maximumCallsInFlight,
                    unmatchedReplies: look.counts.unmatchedReplies,
                    retries: look.counts.retries,
                    oldest: look.oldest.map(TrafficPage.Call.init),
                    procedures: look.statistics.map { Self.procedures($0, at: now) } ?? [],
                    pool: await Self.pool("connections", caller.channelRegistry)
                )
            )
        }
        for (index, receiver) in receivers.enumerated() {
            let look = receiver.look()
            let queue = queues.status(of: "\(index) \(look.queue)") {
                await receiver.channelRegistry?.status(ofQueue: receiver.queueName)
            }
            page.receivers.append(
                TrafficPage.Receiver(
                    id: index,
                    service: DisplayText.line(look.service),
                    state: "\(look.state)",
                    queue: DisplayText.line(look.queue),
                    backlog: queue?.messageCount,
                    consumers: queue?.consumerCount,
                    concurrency: look.concurrency,
                    prefetch: look.prefetch,
                    running: look.running,
                    waiting: look.waiting,
                    zombies: look.zombieHandlers,
                    counts: Self.lines(look.counts),
                    oldest: look.oldest.map(TrafficPage.Call.init),
                    procedures: look.statistics.map { Self.procedures($0, at: now) } ?? [],
                    pool: await Self.pool("connections", receiver.channelRegistry)
                )
            )
        }
        for pool in pools {
            page.pools.append(
                await Self.pool(pool.supervisor.tree().name, pool.channelRegistry)
                    ?? TrafficPage.Pool(
                        name: DisplayText.line(pool.supervisor.tree().name),
                        state: "stopped",
                        waiting: 0,
                        failures: [],
                        connections: []
                    )
            )
        }
        return page
    }

    private static func procedures(_ statistics: CallStatistics, at now: CompactInstant) -> [TrafficPage.Procedure] {
        statistics.summaries(at: now).prefix(100).map { summary in
            TrafficPage.Procedure(
                destination: DisplayText.line(summary.key.destination, limit: 100),
                procedure: DisplayText.line(summary.key.procedure, limit: 100),
                calls: RateSummary(summary)
            )
        }
    }

    private static func lines(_ counts: RPCReceiverCounts) -> [ProcessPage.Line] {
        [
            ("received", counts.received), ("redelivered", counts.redelivered), ("answered", counts.answered),
            ("failed", counts.failed), ("expired", counts.expired), ("shed", counts.shed),
            ("repeated", counts.repeated), ("timed out", counts.timedOut), ("poisoned", counts.poisoned),
            ("unanswerable", counts.unanswerable),
            ("misdirected", counts.misdirected), ("unreadable", counts.unreadable),
        ].map { ProcessPage.Line(name: $0.0, value: "\($0.1)") }
    }

    private static func pool(_ name: String, _ registry: ChannelRegistry?) async -> TrafficPage.Pool? {
        guard let look = await registry?.look() else { return nil }
        return TrafficPage.Pool(
            name: DisplayText.line(name),
            state: "\(look.state)",
            waiting: look.waiting,
            failures: look.failures.prefix(10).map { DisplayText.line($0) },
            connections: look.connections.prefix(50).map { connection in
                TrafficPage.Connection(
                    name: connection.name.map { DisplayText.line($0) },
                    endpoint: DisplayText.line(connection.endpoint),
                    state: connection.isClosing ? "closing" : connection.blockedReason == nil ? "open" : "blocked",
                    blockedReason: connection.blockedReason.map { DisplayText.line($0) },
                    isAnswering: connection.isAnswering,
                    channels: connection.channels.prefix(100).map { channel in
                        TrafficPage.Channel(
                            number: Int(channel.number),
                            state: channel.isClosing ? "closing" : "open",
                            isConfirming: channel.isConfirming,
                            unconfirmed: channel.unconfirmed,
                            outbox: channel.outbox.entries,
                            outboxBytes: channel.outbox.bytes,
                            waitingPublishers: channel.waitingPublishers,
                            operations: channel.operations,
                            consumers: channel.consumers,
                            prefetch: channel.prefetch.map(Int.init)
                        )
                    }
                )
            }
        )
    }
}

extension RateSummary {
    init(_ summary: CallStatistics.Summary) {
        total = summary.total
        rate = summary.rate
        median = summary.median?.milliseconds
        p99 = summary.p99?.milliseconds
        longest = summary.longest.milliseconds
        outcomes = Dictionary(
            summary.outcomes.map { (DisplayText.line($0.key, limit: 50), $0.value) },
            uniquingKeysWith: +
        )
    }
}

extension TrafficPage.Call {
    init(_ call: CallInFlight) {
        id = DisplayText.line(call.id, limit: 64)
        destination = DisplayText.line(call.destination, limit: 100)
        procedure = DisplayText.line(call.procedure, limit: 100)
        age = call.age.seconds
        remaining = call.remaining.seconds
        stage = call.stage.rawValue
        attempts = call.attempts
    }
}
