import AMQPPool
import ConcurrencyPrimitives
import Logging
import NIOCore
import RPCWire
import Supervision

extension Supervisor {
    /// The caller's tree (one for all): when one of the three ends, calls and channels no longer know of each other, so all begin anew.
    ///
    /// On a shared pool it is the same tree with the same guarantees: its channels are its own, and only the connections are leased.
    static func caller(
        _ name: String,
        service: String,
        configuration: RPCCallerConfiguration,
        on sharedPool: AMQPPool?,
        current: CurrentIncarnation<CallTable>,
        states: CallerStates,
        counters: CallerCounters,
        logger: Logger
    ) -> Supervisor {
        var pool = configuration.pool
        if pool.connection.name == nil { pool.connection.name = "\(service)-caller" }
        // Draining first, then letting go of a reply queue that was being declared, closing after it.
        pool.channelShutdown = configuration.drainTimeout.bounded + pool.connection.closeTimeout.bounded * 2
        let eventLoopGroup = pool.connection.eventLoopGroup
        let drainTimeout = configuration.drainTimeout.bounded
        let settings = CallTable.Settings(
            service: service,
            names: configuration.names,
            maximumCallsInFlight: configuration.maximumCallsInFlight,
            maximumCallsWaiting: configuration.maximumCallsWaiting,
            replies: configuration.replies,
            confirms: configuration.confirms,
            replyPrefetch: configuration.replyPrefetch,
            replyQueueExpiry: configuration.replyQueueExpiry.bounded,
            bounceExchange: configuration.bounceExchange
        )
        let opening = FirstOpen()
        let abandoned = AbandonedQueues()
        // Kept over all incarnations: what the broker refuses it refuses again.
        let brokerLimit = BrokerMessageLimit()
        let reports = ConnectionReports(
            "caller",
            service,
            of: &pool,
            leasedFrom: sharedPool,
            metricsFactory: configuration.metricsFactory,
            logger: logger,
            details: { current.value?.replyDetails ?? [:] },
            inWork: { current.value?.count }
        )
        return Supervisor(name, strategy: .oneForAll, intensity: configuration.intensity, logger: logger) {
            Child("registry") { context in
                guard current.value == nil else { throw RPCConfigurationError.alreadyRunning(name) }
                current.begin(in: context)
                try configuration.check(service: service)
                guard !configuration.pool.endpoints.isEmpty else { throw RPCConfigurationError.noEndpoints }
                return reports.registry(context) { states.update() }
            }
            Child("pending") { context in
                let registry = context.reference("registry", as: ChannelRegistry.self)
                let table = CallTable(
                    settings: settings,
                    registry: try registry.resolve(),
                    counters: counters,
                    abandoned: abandoned,
                    brokerLimit: brokerLimit,
                    eventLoop: eventLoopGroup.next(),
                    logger: context.logger,
                    changed: { states.update() }
                )
                return PendingRequests(table, current: current, context: context, registry: registry.pid)
            }
            Supervisor.pool(
                configuration: pool,
                source: sharedPool.map { .leased($0.leases) } ?? .own(),
                confirms: configuration.confirms,
                registry: { context in try context.poolOwner.child("registry", as: ChannelRegistry.self).resolve() },
                onOpen: { channel, context in
                    let caller = context.poolOwner
                    let table = try caller.child("pending", as: PendingRequests.self).resolve().table
                    table.depends(on: context.poolSupervisor)
                    do {
                        try await table.open(channel)
                        opening.succeeded()
                    } catch let error as RPCTopologyError where opening.isMistake(error) {
                        caller.pid.exit(.shutdown(cause: error))
                        throw error
                    }
                },
                onStop: { channel in await current.value?.drain(channel, within: drainTimeout) }
            )
        }
        .observed(reports.log.follow)
    }
}
