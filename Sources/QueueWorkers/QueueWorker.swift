public import AMQPPool
internal import ConcurrencyPrimitives
import Foundation
import Logging
public import Supervision
import Synchronization

/// Handles the messages of its queues, across failures of the connection, the channel, a queue, and the worker itself.
///
/// Created by ``Supervision/Child/worker(_:of:from:on:retry:configuration:restart:orderedBy:handler:)`` and its variants. While it runs it
/// can be paused and reconfigured:
///
///     let orders = try shop.child("orders", as: QueueWorker.self)
///     try await orders.call { worker in try await worker.setConcurrency(2) }
///
/// | what happens | what it does |
/// |---|---|
/// | the handler returns | publishes the handler's messages, waits for the confirms, acknowledges |
/// | it throws, or exceeds its time limit | acts on the decision of the error, of ``WorkerConfiguration/onFailure``, or of the ``WorkerRetry`` |
/// | the message cannot be decoded | parks it |
/// | its type has no handler | moves it to `<queue>.unhandled` |
/// | a queue is missing, the connection or channel is lost | waits, and resumes |
/// | it is delivered more often than the limit | parks it without running it again |
/// | it is stopped | requeues messages that were not started, or handles them; waits for handlers and for messages being published |
public actor QueueWorker: Supervision.Worker {
    private var sources: [String: Source] = [:] {
        didSet { shownSources.withLock { [sources] in $0 = sources } }
    }
    /// The same for readers that do not wait for the actor.
    private nonisolated let shownSources = Mutex<[String: Source]>([:])
    private let makeSource: @Sendable (_ queue: String) -> Source
    /// Ends the worker with an error that waiting cannot resolve.
    private let failure = OneShot<any Error>()
    private let runner: DeliveryRunner
    private let configuration: WorkerConfiguration
    private let context: ChildContext
    private let stopRequest: StopRequest
    private let events: AsyncStream<WorkerEvent>
    /// Where to continue in a stream; the last value counts.
    private let offsets: AsyncStream<Int64>
    private let processing: MessageProcessing
    private let pool: AMQPPool
    private let log: BrokerLog
    private nonisolated let path: String
    /// The effect of ``pause()`` for readers that do not wait for the actor.
    private nonisolated let pausing = Atomic(false)

    fileprivate struct Source: Sendable {
        let loop: ConsumerLoop
        var task: Task<Void, Never>?
    }

    /// By queue. Removed queues stay, because copies of their messages may be in flight.
    private final class Topologies: Sendable {
        private let all = Mutex<[String: WorkerTopology]>([:])

        func add(_ topology: WorkerTopology) { all.withLock { $0[topology.queue] = topology } }

        /// Publishes instead of a message. The target queue may be missing: it was deleted, or it is for a delay that only an error has
        /// requested.
        func publish(_ forward: Forward, on pool: AMQPPool) async throws {
            do {
                try await pool.publish(forward)
            } catch let error as AMQPError {
                let all = all.withLock { Array($0.values) }
                guard let topology = all.first(where: { $0.owns(forward.routingKey) }) else { throw error }
                switch error.cause {
                case .returned:
                    try await topology.ensure(side: forward.routingKey, on: pool)
                    try await pool.publish(forward)
                case .unencodable where !forward.properties.headers.isBare:
                    try await publish(topology.bare(forward), on: pool)
                case .connectFailed, .invalidEndpoint, .tlsFailed, .handshakeFailed, .authenticationFailed,
                    .tooFewChannels, .virtualHostRefused, .notConnected, .setUpFailed, .poolNotRunning, .poolEnded,
                    .connectionLost, .heartbeatTimeout, .connectionClosedByBroker, .connectionClosed,
                    .channelClosedByBroker, .channelClosed, .channelLost, .topologyRefused, .protocolViolation,
                    .timedOut, .cancelled, .blocked, .overloaded, .tooManyChannels, .invalidArgument, .unencodable,
                    .messageTooLarge, .propertiesRefused, .confirmsNotSelected, .nacked, .refused, .notSent,
                    .unconfirmed:
                    throw error
                }
            }
        }
    }

    /// The loops of all queues, for the end of the process.
    private final class Loops: Sendable {
        private let state = Mutex<(all: [ConsumerLoop], reason: ExitReason?)>(([], nil))

        func add(_ loop: ConsumerLoop) {
            let reason = state.withLock { state in
                state.all.append(loop)
                return state.reason
            }
            if let reason { loop.ended(reason) }
        }

        func remove(_ loop: ConsumerLoop) { state.withLock { $0.all.removeAll { $0 === loop } } }

        func end(_ reason: ExitReason) {
            let loops = state.withLock { state in
                state.reason = reason
                return state.all
            }
            for loop in loops { loop.ended(reason) }
        }
    }

    private let loops = Loops()
    /// Notifies the worker's user.
    private let announce: @Sendable (WorkerEvent) -> Void
    private let firstQueues: [String]
    /// `nil`: the number of messages handled concurrently.
    private var givenPrefetch: UInt16?
    private var concurrency: Int
    private let batchSize: Int
    /// The first problem with its arguments, `nil` if they are valid.
    private let problem: String?
    private var isPaused = false
    private var isEnding = false

    init(
        _ context: ChildContext,
        _ description: WorkerDescription,
        on pool: AMQPPool
    ) {
        self.context = context
        path = context.path
        self.pool = pool
        stopRequest = context.stopRequest
        var configuration = description.configuration
        let (events, sink) = AsyncStream.makeStream(of: WorkerEvent.self, bufferingPolicy: .bufferingNewest(1024))
        self.events = events
        let (offsets, offsetSink) = AsyncStream.makeStream(of: Int64.self, bufferingPolicy: .bufferingNewest(1))
        self.offsets = offsets
        // Events are passed to the user in a separate task, wherever they occur.
        configuration.onEvent = { sink.yield($0) }
        let processing = MessageProcessing(
            handler: description.handler,
            policy: WorkerPolicy(
                retry: description.retry,
                configuration: configuration,
                host: ProcessInfo.processInfo.hostName,
                keepsFailedIn: description.keepsFailedIn
            ),
            logger: context.logger,
            handled: configuration.deduplication.map { HandledMessages($0) },
            metrics: ConsumerMetrics(
                queue: description.queues.joined(separator: ","),
                factory: pool.configuration.metricsFactory
            ),
            counters: WorkerCounters(),
            publish: { try await pool.publish($0, timeout: nil) }
        )
        self.processing = processing
        self.configuration = description.configuration
        let topologies = Topologies()
        let runner = DeliveryRunner(
            description.engineSettings,
            behavior: processing.behavior { try await topologies.publish($0, on: pool) }
        )
        self.runner = runner
        let log = BrokerLog(
            .init(
                kind: "worker",
                name: context.path,
                working: "consuming",
                connections: description.queues.count,
                opensConnections: false
            ),
            logger: context.supervisor.logger
        )
        self.log = log
        let hasUnhandled = description.handler.hasTypes
        makeSource = { [configuration] queue in
            let topology = description.topology(of: queue)
            topologies.add(topology)
            var settings = ConsumerLoop.Settings(
                queue: queue,
                owner: "\(context.path) \(queue)",
                prefetch: description.prefetch,
                backoff: ConsumerConfiguration().reopenBackoff,
                log: log,
                onOpen: { _ in try await topology.ensure(on: pool, unhandled: hasUnhandled) }
            )
            settings.exclusive = configuration.exclusive
            settings.arguments = configuration.arguments
            settings.queueType = configuration.queueType.isStream ? .stream : nil
            settings.streamStart = configuration.streamStart
            settings.isTransient = { error in
                if case .missingQueues? = error as? WorkerError { true } else { false }
            }
            settings.onInterruption = { reason, isMissing in
                sink.yield(
                    isMissing ? .missing(queue: queue, reason: reason) : .interrupted(queue: queue, reason: reason)
                )
            }
            settings.onConsuming = { _ in sink.yield(.consuming(queue: queue)) }
            settings.onOffset = { offsetSink.yield($0) }
            let loop = ConsumerLoop(settings, pool: pool, runner: runner) { delivery, type in
                processing.prepare(delivery, from: queue, type)
            }
            return Source(loop: loop)
        }
        announce = { sink.yield($0) }
        problem = description.problem
        givenPrefetch = description.configuration.prefetch
        concurrency = description.configuration.concurrency
        batchSize = description.batchSize
        firstQueues = description.queues
        context.pid.onExit { [loops] reason in
            sink.finish()
            offsetSink.finish()
            loops.end(reason)
        }
    }

    /// Works until it is asked to stop, and then drains.
    ///
    /// - Throws: ``WorkerError/invalidSetting(_:)``; the broker's refusal of its first declarations (403, 406).
    public func run() async throws {
        if let problem { throw WorkerError.invalidSetting(problem) }
        // Not awaited: they end with the process, after the events sent before.
        Task.detached { [events, onEvent = configuration.onEvent] in
            for await event in events { onEvent(event) }
        }
        // Not awaited, as above.
        Task.detached { [offsets, onOffset = configuration.onStreamOffset] in
            for await offset in offsets { onOffset(offset) }
        }
        log.handle(.started)
        for queue in firstQueues { begin(queue) }
        try await workUntilStopped()
        isEnding = true
        log.handle(.stopping(inWork: runner.count))
        let drainTimeout = configuration.drainTimeout.bounded
        let deadline = ContinuousClock.now + drainTimeout
        let isInTime: Bool
        switch configuration.atStop {
        case .giveBack where processing.handler.isOrdered:
            // With a single active consumer, the next consumer would get messages as soon as this one is cancelled, and those would
            // overtake the messages here. The end of the channel requeues everything at once, in order, before the next consumer's turn.
            runner.stopStarting()
            for source in sources.values { await source.end() }
            isInTime = await runner.resting(atMost: ContinuousClock.now.duration(to: deadline))
        case .giveBack:
            runner.stopStarting()
            for source in sources.values { await source.end(cancellingWithin: drainTimeout) }
            runner.drain(finishing: false)
            isInTime = await runner.idle(atMost: ContinuousClock.now.duration(to: deadline))
        case .finish:
            for source in sources.values { await source.end(cancellingWithin: drainTimeout) }
            runner.drain(finishing: true)
            isInTime = await runner.idle(atMost: ContinuousClock.now.duration(to: deadline))
        }
        if !isInTime { context.logger.warning("messages are not handled in time, and will be redelivered") }
        // A crash leaves the channels to the next incarnation.
        try Task.checkCancellation()
        for source in sources.values { await source.loop.close() }
        log.handle(.stopped(.shutdown()))
    }

    private func begin(_ queue: String) {
        guard sources[queue] == nil else { return }
        var source = makeSource(queue)
        loops.add(source.loop)
        source.task = Task.detached { [loop = source.loop, failure] in
            do {
                try await loop.run()
            } catch is CancellationError {
            } catch {
                failure.set(error)
            }
        }
        sources[queue] = source
    }

    private nonisolated func workUntilStopped() async throws {
        do {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { [failure] in throw try await failure.value() }
                group.addTask { [stopRequest] in await stopRequest.wait() }
                defer { group.cancelAll() }
                try await group.next()
            }
            try Task.checkCancellation()
        } catch {
            // The process ends, and the loops with it: see `onExit`.
            await stopConsuming()
            throw error
        }
    }

    private func stopConsuming() {
        isEnding = true
        for source in sources.values { source.task?.cancel() }
    }

    // MARK: Changes at run time

    /// The queues that it works on.
    public var queues: [String] { sources.keys.sorted() }

    /// Adds a queue, with the same settings and limits: declares what is missing, and consumes it. This does not survive a restart: the
    /// worker starts with its original queues.
    ///
    /// - Throws: ``WorkerError/invalidSetting(_:)`` if the name is invalid.
    public func add(_ queue: String) async throws(WorkerError) {
        if let problem = WorkerTopology.problem(of: queue) { throw .invalidSetting(problem) }
        guard !isEnding, sources[queue] == nil else { return }
        begin(queue)
        log.handle(.resized(sources.count, lost: false))
        guard let loop = sources[queue]?.loop else { return }
        await loop.setPrefetch(prefetch)
        if isPaused { await loop.pause() }
    }

    /// Removes a queue. Messages that were not started are returned to the broker; this returns when running handlers have ended, or after
    /// the drain timeout: then the broker redelivers their messages.
    public func remove(_ queue: String) async {
        guard !isEnding, let source = sources.removeValue(forKey: queue) else { return }
        let deadline = ContinuousClock.now + configuration.drainTimeout.bounded
        await source.end(cancellingWithin: configuration.drainTimeout.bounded)
        if let deliveries = source.loop.source {
            runner.giveBack(deliveries)
            if await !runner.idle(deliveries, atMost: ContinuousClock.now.duration(to: deadline)) {
                context.logger.warning(
                    "messages are not handled in time, and will be redelivered",
                    metadata: ["messaging.destination.name": "\(queue)"]
                )
            }
        }
        await source.loop.close()
        loops.remove(source.loop)
        log.handle(.resized(sources.count, lost: source.loop.isUp))
        announce(.removed(queue: queue))
    }

    /// Stops consuming and starting messages, until ``resume()``. Messages that were not started are returned to the broker in order, after
    /// running ones of their key; running ones are finished. A message that waits here for its next attempt is returned too: whoever gets
    /// it tries it again, and counts its attempts from the start, but not the broker's deliveries.
    public func pause() async {
        isPaused = true
        pausing.store(true, ordering: .relaxed)
        log.handle(.note(.info, "paused", ["in-work": "\(runner.count)"]))
        runner.setPaused(true)
        for source in sources.values { await source.loop.pause() }
        guard isPaused else { return }
        runner.giveBack()
        announce(.paused(for: nil))
    }

    /// Resumes after ``pause()``.
    public func resume() {
        guard isPaused else { return }
        isPaused = false
        pausing.store(false, ordering: .relaxed)
        log.handle(.note(.info, "resumed", [:]))
        runner.setPaused(false)
        for source in sources.values { source.loop.resume() }
        announce(.resumed)
    }

    /// Changes how many messages, or batches, are handled concurrently. Running ones are not affected. The prefetch follows, unless it was
    /// set by the configuration or ``setPrefetch(_:)``.
    ///
    /// - Throws: ``WorkerError/invalidSetting(_:)`` if it is less than 1.
    public func setConcurrency(_ concurrency: Int) async throws(WorkerError) {
        if let problem = WorkerConfiguration.problem(ofConcurrency: concurrency) { throw .invalidSetting(problem) }
        self.concurrency = concurrency
        runner.setConcurrency(concurrency)
        if givenPrefetch == nil { await applyPrefetch() }
    }

    /// Changes the maximum number of unsettled messages. `nil`: the number handled concurrently, also when that changes.
    ///
    /// - Throws: ``WorkerError/invalidSetting(_:)`` if it is 0, or less than a batch.
    public func setPrefetch(_ prefetch: UInt16?) async throws(WorkerError) {
        if let problem = WorkerConfiguration.problem(ofPrefetch: prefetch, batchSize) { throw .invalidSetting(problem) }
        givenPrefetch = prefetch
        await applyPrefetch()
    }

    private var prefetch: UInt16 {
        givenPrefetch ?? WorkerDescription.prefetch(concurrency: concurrency, batchSize: batchSize)
    }

    private func applyPrefetch() async {
        for source in sources.values { await source.loop.setPrefetch(prefetch) }
    }

    /// Changes how many messages may start per interval; `nil` for no limit.
    ///
    /// - Throws: ``WorkerError/invalidSetting(_:)`` if the rate is invalid.
    public func setRate(_ rate: DeliveryRate?) throws(WorkerError) {
        if let problem = rate?.problem { throw .invalidSetting(problem) }
        runner.setRate(rate)
    }

    /// The number of unsettled messages.
    public var unsettled: Int { runner.count }
    /// The number of running handlers.
    public var running: Int { runner.running }
    /// The number of handlers that are running after they were cancelled.
    public var zombies: Int { runner.zombieCount }
}

extension QueueWorker.Source {
    /// Ends the loop: it does not consume again.
    fileprivate func end() async {
        task?.cancel()
        await task?.value
    }

    /// Accepts no more deliveries.
    fileprivate func end(cancellingWithin timeout: Duration) async {
        await end()
        await loop.cancel(timeout: timeout)
    }
}

extension MessageProcessing {
    /// The behavior of the runner, with this closure to publish instead of messages.
    func behavior(
        publishing: @escaping @Sendable (Forward) async throws -> Void
    ) -> DeliveryRunner.Behavior {
        var behavior = DeliveryRunner.Behavior { await handle($0) }
        behavior.onTimeLimit = { item, _ in timedOut(item) }
        behavior.publish = publishing
        let onEvent = policy.configuration.onEvent
        behavior.onEvent = { [logger, log, metrics] event in
            switch event {
            case .began: break
            case .tripped(let pause):
                logger.error("too many messages fail: the worker pauses", metadata: ["pause": "\(pause.text)"])
                onEvent(.paused(for: pause))
            case .recovered:
                logger.notice("the worker resumes")
                onEvent(.resumed)
            case .zombies(let count):
                metrics?.zombies(count)
                onEvent(.zombies(count))
            case .publishFailed(let forward, let error):
                log(
                    .notPublished,
                    .error,
                    to: logger,
                    "a message cannot be moved to a queue; this is retried",
                    ["queue": "\(forward.routingKey)", "error": "\(error)"]
                )
            case .idle: onEvent(.idle)
            }
        }
        return behavior
    }
}

extension QueueWorker: ObservableWorker {
    /// The number of consumed queues, and of all queues.
    private nonisolated var consumedQueues: (count: Int, all: Int) {
        let loops = shownSources.withLock { $0.values.map(\.loop) }
        return (loops.count { $0.look.isConsuming }, loops.count)
    }

    package nonisolated func look() -> WorkerLook {
        var look = WorkerLook()
        look.deliveries = runner.look
        look.counts = processing.counters.counts
        for (queue, source) in shownSources.withLock({ $0 }).sorted(by: { $0.key < $1.key }) {
            let loop = source.loop.look
            look.prefetch = Int(loop.prefetch)
            look.queues.append(
                WorkerLook.Queue(
                    name: queue,
                    failed: processing.policy.keepsFailedIn ?? "\(queue).failed",
                    isConsuming: loop.isConsuming,
                    interruption: loop.interruption
                )
            )
        }
        return look
    }

    package nonisolated func status(ofQueue queue: String) async -> QueueStatus? {
        await pool.channelRegistry?.status(ofQueue: queue)
    }
}

/// The description of a worker, independent of the process that runs it.
struct WorkerDescription: Sendable {
    var queues: [String]
    var retry: WorkerRetry
    var configuration: WorkerConfiguration
    var handler: WorkerHandler
    var batchSize = 1
    var batchDelay = Duration.zero
    var bindings: [(exchange: String, routingKey: String)] = []
    /// Whether the queue is deleted with this process.
    var isTransient = false
    /// The queue for failed messages instead of `<queue>.failed`.
    var keepsFailedIn: String?

    func topology(of queue: String) -> WorkerTopology {
        var topology = WorkerTopology(
            queue: queue,
            type: isTransient ? .classic : configuration.queueType,
            deliveryLimit: max(1, configuration.deliveryLimit),
            retry: retry,
            declares: configuration.declares
        )
        topology.bindings = bindings
        topology.isTransient = isTransient
        topology.keepsFailedIn = keepsFailedIn
        return topology
    }

    var prefetch: UInt16 {
        configuration.prefetch ?? Self.prefetch(concurrency: configuration.concurrency, batchSize: batchSize)
    }

    /// The number of messages handled concurrently.
    static func prefetch(concurrency: Int, batchSize: Int) -> UInt16 {
        let size = min(max(1, batchSize), Int(UInt16.max))
        let handled = max(1, concurrency).multipliedReportingOverflow(by: size)
        return UInt16(clamping: handled.overflow ? .max : handled.partialValue)
    }

    /// The first problem with the description, `nil` if it is valid.
    var problem: String? {
        if let problem = configuration.problem(with: retry, batchSize: batchSize) { return problem }
        if batchSize < 1 || batchSize > Int(UInt16.max) {
            return "size must be from 1 to \(UInt16.max) messages, not \(batchSize)"
        }
        if batchDelay < .zero { return "a batch cannot wait for \(batchDelay): within must not be negative" }
        if queues.isEmpty { return "a worker needs a queue: from is empty" }
        return handler.problem ?? queues.lazy.compactMap { WorkerTopology.problem(of: $0) }.first
    }

    var engineSettings: DeliveryCore.Settings {
        var settings = DeliveryCore.Settings()
        settings.concurrency = max(1, configuration.concurrency)
        settings.timeLimit = configuration.handlerTimeLimit
        settings.batchSize = min(max(1, batchSize), Int(UInt16.max))
        settings.batchDelay = max(.zero, batchDelay)
        settings.isOrdered = handler.isOrdered
        settings.rate = configuration.rate
        settings.killSwitch = configuration.killSwitch
        return settings
    }
}

extension QueueWorker: HealthReporting {
    /// The current state, read without an actor hop.
    public nonisolated var state: WorkerState {
        if log.isStopping { return .stopping }
        if pausing.load(ordering: .relaxed) { return .paused }
        let (consumed, all) = consumedQueues
        return all > 0 && consumed == all ? .consuming : .waiting
    }

    /// Whether it is consuming all its queues.
    public nonisolated var isReady: Bool { state == .consuming }

    /// Whether it works, and why not. Use it through a reference: `Health(of: pool, try shop.child("orders", as: QueueWorker.self))`.
    public nonisolated var health: Health.Part {
        switch state {
        case .consuming: .ready(path)
        case .waiting:
            .notReady(
                path,
                why: """
                    \(consumedQueues.count) of \(consumedQueues.all) queues are consumed; \
                    \(pool.health.why ?? "the pool is ready")
                    """
            )
        case .paused: .notReady(path, why: "paused")
        case .stopping: .notReady(path, why: "stopping")
        }
    }
}
