public import AMQPPool
internal import ConcurrencyPrimitives
import Foundation
import Logging
public import Supervision
import Synchronization

/// A worker: handles the messages of its queues, whatever becomes of connection, channel, queue, or itself.
///
/// Made by ``Supervision/Child/worker(_:of:from:on:retry:configuration:restart:orderedBy:handler:)`` and the like. While it runs it can be
/// paused and changed:
///
///     let orders = try shop.child("orders", as: QueueWorker.self)
///     try await orders.call { worker in worker.setConcurrency(2) }
///
/// | what happens | what it does |
/// |---|---|
/// | the handler returns | publishes what the handler wants published, waits for the confirms, acknowledges |
/// | it throws, or takes longer than it may | as the error decides, or ``WorkerConfiguration/onFailure``, or the ``WorkerRetry`` |
/// | the message cannot be decoded | parks it |
/// | its type is nobody's | puts it into `<queue>.unhandled` |
/// | a queue is missing, the connection or channel is lost | waits, and goes on |
/// | it is delivered more often than the limit | parks it, without running it once more |
/// | it is stopped | gives back what was not begun, or handles it; waits for handlers and for what is being published |
public actor QueueWorker: Supervision.Worker {
    private let sources: [Source]
    private let runner: DeliveryRunner<WorkerMessage>
    private let configuration: WorkerConfiguration
    private let retry: WorkerRetry
    private let context: ChildContext
    private let stopRequest: StopRequest
    private let events: AsyncStream<WorkerEvent>
    /// Where a stream goes on; the last counts.
    private let offsets: AsyncStream<Int64>
    private let processing: MessageProcessing
    private let pool: AMQPPool

    struct Source: Sendable {
        let topology: WorkerTopology
        let loop: ConsumerLoop<WorkerMessage>
    }

    init(
        _ context: ChildContext,
        _ description: WorkerDescription,
        on pool: AMQPPool
    ) {
        self.context = context
        self.pool = pool
        stopRequest = context.stopRequest
        retry = description.retry
        var configuration = description.configuration
        let (events, sink) = AsyncStream.makeStream(of: WorkerEvent.self, bufferingPolicy: .bufferingNewest(1024))
        self.events = events
        let (offsets, offsetSink) = AsyncStream.makeStream(of: Int64.self, bufferingPolicy: .bufferingNewest(1))
        self.offsets = offsets
        // Its user hears of them in a task of their own, wherever they happen.
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
            metrics: WorkerMetrics(queue: description.queues.joined(separator: ",")),
            publish: { try await pool.publish($0, timeout: nil) }
        )
        self.processing = processing
        self.configuration = description.configuration
        let topologies = description.topologies
        let runner = DeliveryRunner(
            description.engineSettings,
            behavior: processing.behavior { forward in
                if let topology = topologies.first(where: { DelayQueue.isOne(forward.routingKey, of: $0.queue) }) {
                    try await topology.ensureDelay(named: forward.routingKey, on: pool)
                }
                try await pool.publish(forward)
            }
        )
        self.runner = runner
        let hasUnhandled = description.handler.hasTypes
        sources = topologies.map { topology in
            let queue = topology.queue
            var settings = ConsumerLoop<WorkerMessage>.Settings(
                queue: queue,
                owner: "\(context.path) \(queue)",
                prefetch: description.prefetch,
                backoff: ConsumerConfiguration().reopenBackoff,
                logger: context.logger,
                onOpen: { _ in try await topology.ensure(on: pool, unhandled: hasUnhandled) }
            )
            settings.exclusive = configuration.exclusive
            settings.arguments = configuration.arguments
            settings.queueType = configuration.queueType == .stream ? .stream : nil
            settings.isTransient = { error in
                if case .missingQueues? = error as? WorkerError { true } else { false }
            }
            settings.onInterruption = { sink.yield(.interrupted(queue: queue, reason: $0)) }
            settings.onConsuming = { _ in sink.yield(.consuming(queue: queue)) }
            settings.onOffset = { offsetSink.yield($0) }
            let loop = ConsumerLoop(settings, pool: pool, runner: runner) { delivery, type in
                processing.prepare(delivery, from: queue, type)
            }
            return Source(topology: topology, loop: loop)
        }
        let loops = sources.map(\.loop)
        context.pid.onExit { reason in
            sink.finish()
            offsetSink.finish()
            for loop in loops { loop.ended(reason) }
        }
    }

    /// Works until it is asked to stop, and then drains.
    ///
    /// - Throws: ``WorkerError/invalidSetting(_:)``; the broker's refusal of what it declares (403, 406), at the first time.
    public func run() async throws {
        try configuration.check(retry)
        // They end with the process, which finishes what they read.
        Task.detached { [events, onEvent = configuration.onEvent] in
            for await event in events { onEvent(event) }
        }
        Task.detached { [offsets, onOffset = configuration.onStreamOffset] in
            for await offset in offsets { onOffset(offset) }
        }
        try await workUntilStopped()
        let drainTimeout = configuration.drainTimeout.bounded
        let deadline = ContinuousClock.now + drainTimeout
        if configuration.atStop == .giveBack { runner.hold() }
        for source in sources { await source.loop.cancel(timeout: drainTimeout) }
        runner.drain(finishing: configuration.atStop == .finish)
        if await !runner.idle(atMost: ContinuousClock.now.duration(to: deadline)) {
            context.logger.warning("messages are not handled in time, and will be redelivered")
        }
        // A crash leaves the channels to the next incarnation.
        try Task.checkCancellation()
        for source in sources { await source.loop.close() }
    }

    private nonisolated func workUntilStopped() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for source in sources { group.addTask { try await source.loop.run() } }
            group.addTask { [stopRequest] in await stopRequest.wait() }
            defer { group.cancelAll() }
            try await group.next()
        }
        try Task.checkCancellation()
    }

    // MARK: Run time

    /// Begins nothing more and consumes nothing, until ``resume()``. What was not begun is given back; what runs is finished.
    public func pause() async {
        runner.setPaused(true)
        for source in sources { await source.loop.pause() }
        runner.giveBack()
    }

    /// Goes on after ``pause()``.
    public func resume() {
        runner.setPaused(false)
        for source in sources { source.loop.resume() }
    }

    /// How many messages, or batches, are handled at once from now on. What runs is not disturbed.
    public func setConcurrency(_ concurrency: Int) {
        runner.setConcurrency(concurrency)
    }

    /// How many messages the broker may have handed over that are not settled, from now on.
    public func setPrefetch(_ prefetch: UInt16) async {
        for source in sources { await source.loop.setPrefetch(prefetch) }
    }

    /// How many messages may begin in a time, from now on; nil is any number.
    ///
    /// - Throws: ``WorkerError/invalidSetting(_:)``
    public func setRate(_ rate: DeliveryRate?) throws(WorkerError) {
        if let problem = rate?.problem { throw .invalidSetting(problem) }
        runner.setRate(rate)
    }

    /// How many messages it has that are not settled.
    public var unsettled: Int { runner.count }
    /// How many handlers run.
    public var running: Int { runner.running }
    /// How many handlers run on although they were cancelled.
    public var zombies: Int { runner.zombieCount }
}

extension MessageProcessing {
    /// What the runner needs, with this to publish in place of messages.
    func behavior(
        publishing: @escaping @Sendable (Forward) async throws -> Void
    ) -> DeliveryRunner<WorkerMessage>.Behavior {
        var behavior = DeliveryRunner<WorkerMessage>.Behavior { await handle($0) }
        behavior.onTimeLimit = { timedOut($0, attempt: $1) }
        behavior.publish = publishing
        let onEvent = policy.configuration.onEvent
        behavior.onEvent = { [logger, log, metrics] event in
            switch event {
            case .began(let count): metrics?.began(count)
            case .settled: break
            case .tripped(let pause):
                logger.error("too many messages fail: the worker pauses", metadata: ["pause": "\(pause)"])
                onEvent(.paused(for: pause))
            case .recovered:
                logger.notice("the worker goes on")
                onEvent(.resumed)
            case .zombies(let count):
                metrics?.zombies(count)
                onEvent(.zombies(count))
            case .publishFailed(let forward, let error):
                log(
                    .notPublished,
                    .error,
                    to: logger,
                    "a message cannot be put into a queue; it is tried again",
                    ["queue": "\(forward.routingKey)", "error": "\(error)"]
                )
            case .idle: onEvent(.idle)
            }
        }
        return behavior
    }
}

/// Everything about a worker but where it runs.
struct WorkerDescription: Sendable {
    var queues: [String]
    var retry: WorkerRetry
    var configuration: WorkerConfiguration
    var handler: WorkerHandler
    var batchSize = 1
    var batchDelay = Duration.zero
    var bindings: [(exchange: String, routingKey: String)] = []
    /// For this process only, and gone with it.
    var isTransient = false
    /// Where failed messages go instead of `<queue>.failed`.
    var keepsFailedIn: String?

    var topologies: [WorkerTopology] {
        var seen: Set<String> = []
        return queues.filter { seen.insert($0).inserted }.map { queue in
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
    }

    var prefetch: UInt16 {
        let size = min(max(1, batchSize), Int(UInt16.max))
        let handled = max(1, configuration.concurrency).multipliedReportingOverflow(by: size)
        return configuration.prefetch ?? UInt16(clamping: handled.overflow ? .max : handled.partialValue)
    }

    var engineSettings: DeliveryCore<WorkerMessage>.Settings {
        var settings = DeliveryCore<WorkerMessage>.Settings()
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
