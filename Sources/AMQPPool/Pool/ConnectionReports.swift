package import Logging
package import Metrics
package import Supervision

/// What a caller or receiver measures and logs of its connections: they are its own, or leased from a pool that reports for itself.
package struct ConnectionReports: Sendable {
    package let log: BrokerLog
    private let metrics: PoolMetrics?
    private let lessor: AMQPPool?

    /// - Parameters:
    ///   - kind: "caller", "receiver".
    ///   - working: what it is while it works.
    ///   - pool: whose connections these are, by their name. It measures into the same.
    ///   - lessor: the pool that connections are leased from, if they are.
    package init(
        _ kind: String,
        _ name: String,
        working: String = "connected",
        of pool: inout PoolConfiguration,
        leasedFrom lessor: AMQPPool?,
        metricsFactory: (any MetricsFactory)?,
        logger: Logger,
        details: @escaping @Sendable () -> Logger.Metadata,
        inWork: @escaping @Sendable () -> Int?
    ) {
        self.lessor = lessor
        if lessor == nil {
            metrics = PoolMetrics(pool: pool.connection.name ?? name, factory: metricsFactory)
            pool.connection.metrics = metrics
        } else {
            metrics = nil
        }
        let subject = BrokerStory.Subject(
            kind: kind,
            name: name,
            working: working,
            connections: pool.connectionCount,
            opensConnections: lessor == nil
        )
        log = BrokerLog(subject, logger: logger, details: details, inWork: inWork)
    }

    /// The registry of one incarnation, which reports here and ends with its process.
    package func registry(_ context: ChildContext, onChange: @escaping @Sendable () -> Void) -> ChannelRegistry {
        log.use(context.supervisor.logger)
        let registry = ChannelRegistry(
            log: log,
            metrics: metrics,
            onChange: onChange,
            lessorsReason: { [lessor] in lessor?.reasonForNoConnection }
        )
        registry.ends(with: context.pid)
        return registry
    }
}
