package import Logging
package import Metrics
package import Supervision

/// The metrics and log of the connections of a caller or receiver: its own connections, or connections leased from a pool that reports
/// itself.
package struct ConnectionReports: Sendable {
    package let log: BrokerLog
    private let metrics: PoolMetrics?
    private let lessor: AMQPPool?

    /// - Parameters:
    ///   - kind: "caller", "receiver".
    ///   - working: Its state while it works.
    ///   - pool: The pool whose connections these are, by name; metrics are recorded under it.
    ///   - lessor: The pool that connections are leased from, if any.
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

    /// Creates the registry of one incarnation, which reports here and ends with its process.
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
