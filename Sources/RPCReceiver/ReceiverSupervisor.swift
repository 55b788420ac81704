import AMQPPool
internal import ConcurrencyPrimitives
import Logging
import NIOCore
import RPCWire
import Supervision
import Synchronization

/// The state of one incarnation of the handler process.
final class ReceiverIncarnation: Sendable {
    let registry: ChannelRegistry
    let runner: RequestRunner
    let consumers: RequestConsumers
    /// The handler process.
    let pid: Pid

    init(registry: ChannelRegistry, runner: RequestRunner, consumers: RequestConsumers, pid: Pid) {
        self.pid = pid
        self.registry = registry
        self.runner = runner
        self.consumers = consumers
    }
}

extension Supervisor {
    /// The receiver's tree (rest for one): channels without their handlers would hold requests that nobody answers, so the pool is restarted
    /// with the handlers, and both with the registry.
    static func receiver(
        _ name: String,
        service: String,
        configuration: RPCReceiverConfiguration,
        on sharedPool: AMQPPool?,
        procedures: RPCHandlers,
        current: CurrentIncarnation<ReceiverIncarnation>,
        states: ReceiverStates,
        counters: ReceiverCounters,
        logger: Logger
    ) -> Supervisor {
        var pool = configuration.pool
        if pool.connection.name == nil { pool.connection.name = "\(service)-receiver" }
        // First draining, then closing.
        pool.channelShutdown = configuration.drainTimeout.bounded + pool.connection.closeTimeout.bounded
        // The memory that a requester can occupy is bounded by this times the prefetch: no more per request than per reply.
        pool.connection.maximumIncomingMessageSize = min(
            pool.connection.maximumIncomingMessageSize,
            max(0, pool.connection.maximumMessageSize)
        )
        // Every request in flight may be answered with the largest reply while the broker reads nothing.
        let (largestReplies, overflow) = (configuration.prefetch + 1)
            .multipliedReportingOverflow(by: max(0, pool.connection.maximumMessageSize))
        pool.connection.maximumOutboxBytes = max(pool.connection.maximumOutboxBytes, overflow ? .max : largestReplies)
        // One reply and one acknowledgement per request.
        pool.connection.maximumOutboxEntries = max(
            pool.connection.maximumOutboxEntries,
            2 * (configuration.prefetch + 1)
        )
        let eventLoopGroup = pool.connection.eventLoopGroup
        let settings = RequestPolicy.Settings(configuration, service: service, procedures: procedures)
        let opening = FirstOpen()
        // Kept over all incarnations, because the broker's limit stays the same.
        let brokerLimit = BrokerMessageLimit()
        let permission = ReplyPermission()
        let memory = DeliveryMemory(capacity: configuration.prefetch)
        let isolated = IsolatedReplies(pool.connection, logger: logger)
        let hasWarned = Atomic(false)
        let consumers = { @Sendable (context: ChildContext) throws -> RequestConsumers in
            try context.poolOwner.child("handlers", as: HandlerProcess.self).resolve().incarnation.consumers
        }
        let reports = ConnectionReports(
            "receiver",
            service,
            working: "serving",
            of: &pool,
            leasedFrom: sharedPool,
            metricsFactory: configuration.metricsFactory,
            logger: logger,
            details: {
                ["queue": "\(current.value?.consumers.queueName ?? "")", "procedures": "\(procedures.names.count)"]
            },
            inWork: { current.value?.runner.count }
        )
        return Supervisor(name, strategy: .restForOne, intensity: configuration.intensity, logger: logger) {
            Child("registry") { context in
                guard current.value == nil else { throw RPCConfigurationError.alreadyRunning(name) }
                current.begin(in: context)
                try configuration.check(service: service, procedures: procedures)
                guard !configuration.pool.endpoints.isEmpty else { throw RPCConfigurationError.noEndpoints }
                if configuration.brokerCountsDeliveries != true, !hasWarned.exchange(true, ordering: .relaxed) {
                    context.logger.warning(
                        "deliveries are not counted: a request that crashes this process is redelivered forever; declare a quorum queue",
                        metadata: ["service": "\(service)"]
                    )
                }
                return reports.registry(context) { states.update() }
            }
            Child("handlers") { context in
                let registry = try context.reference("registry", as: ChannelRegistry.self).resolve()
                let watch = ZombieWatch(limit: configuration.concurrency, eventLoop: eventLoopGroup.next())
                let runner = RequestRunner(
                    procedures: configuration.describesItself ? procedures.describing(service) : procedures,
                    settings: settings,
                    counters: counters,
                    logger: context.logger,
                    brokerLimit: brokerLimit,
                    permission: permission,
                    memory: memory,
                    isolated: isolated,
                    zombiesChanged: { watch.changed(to: $0) }
                )
                let consumers = RequestConsumers(
                    service: service,
                    configuration: configuration,
                    queue: try configuration.requestQueue(of: service, procedures: procedures),
                    runner: runner,
                    logger: context.logger,
                    changed: { states.update() }
                )
                watch.begin { [weak consumers, weak watch] in consumers?.suspend(if: { watch?.isTooMany ?? false }) }
                let parts = ReceiverIncarnation(
                    registry: registry,
                    runner: runner,
                    consumers: consumers,
                    pid: context.pid
                )
                context.pid.onExit { _ in
                    watch.end()
                    consumers.end()
                    current.clear(parts)
                    states.update()
                }
                current.set(parts, in: context)
                states.update()
                return HandlerProcess(parts, context: context)
            }
            Supervisor.pool(
                configuration: pool,
                source: sharedPool.map { .leased($0.leases) } ?? .own(),
                // A request is acknowledged after its reply on the same channel: that is equivalent to a confirm.
                confirms: false,
                registry: { context in try context.poolOwner.child("registry", as: ChannelRegistry.self).resolve() },
                onOpen: { channel, context in
                    do {
                        let consumers = try consumers(context)
                        try await consumers.open(channel, context)
                        opening.succeeded()
                    } catch let error as RPCTopologyError where opening.isMistake(error) {
                        context.poolOwner.pid.exit(.shutdown(cause: error))
                        throw error
                    }
                },
                onStop: { channel in await current.value?.consumers.drain(channel) }
            )
        }
        .observed(reports.log.follow)
    }
}
