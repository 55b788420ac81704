import AMQPPool
internal import ConcurrencyPrimitives
import RPCWire

extension RequestPolicy {
    /// How requests are run.
    struct Settings: Sendable {
        var admission: RequestAdmission
        var concurrency: Int
        var handlerTimeLimit: Duration
        var onFailure: RPCFailurePolicy
        var maximumMessageSize: Int
        var exposesErrors: Bool
        var passesUpstreamFailures = false
        var deduplication: RPCDeduplication?
        /// How many calls may wait for a slot; further ones are answered as overloaded. `nil`: all deliveries wait.
        var maximumWaiting: Int?
        /// The library's interceptors, then the configured ones.
        var interceptors: [any RPCReceiverInterceptor] = []
    }
}

extension RequestPolicy.Settings {
    /// The settings of a receiver's configuration for running requests.
    init(_ configuration: RPCReceiverConfiguration, service: String, procedures: RPCHandlers) {
        // The outermost, so that its span exists for the others.
        let tracing = configuration.tracing.resolved.map {
            ReceiverTracing(instruments: $0, service: service, knows: { procedures.knows($0) })
        }
        self.init(
            admission: RequestAdmission(configuration, service: service, procedures: procedures),
            concurrency: configuration.concurrency,
            handlerTimeLimit: configuration.handlerTimeLimit.bounded,
            onFailure: configuration.onFailure,
            maximumMessageSize: configuration.pool.connection.maximumMessageSize,
            exposesErrors: configuration.exposesErrors,
            passesUpstreamFailures: configuration.passesUpstreamFailures,
            deduplication: configuration.deduplication,
            maximumWaiting: configuration.maximumWaiting,
            interceptors: (tracing.map { [$0] } ?? []) + configuration.interceptors
        )
    }
}

extension RequestAdmission {
    /// The settings of a receiver's configuration for turning requests away.
    init(_ configuration: RPCReceiverConfiguration, service: String, procedures: RPCHandlers) {
        // An invalid configuration is rejected before anything is received.
        let queue = try? configuration.requestQueue(of: service, procedures: procedures)
        self.init(
            queue: queue?.name ?? "",
            exchange: configuration.names.exchange,
            bindings: queue?.bindings ?? [],
            replyQueues: configuration.replyQueues,
            names: configuration.names,
            deliveryLimit: configuration.deliveryLimit,
            brokerCounts: configuration.brokerCountsDeliveries,
            maximumRequestSize: configuration.pool.connection.maximumMessageSize
        )
    }
}

extension RPCRequest {
    /// The context of a received request.
    init(_ message: RequestMessage, deadline: ContinuousClock.Instant) {
        self.init(
            kind: message.replyTo == nil ? .cast : .call,
            messageID: message.messageID,
            destination: message.destination ?? "",
            procedure: message.procedure,
            contentType: message.contentType,
            headers: message.headers,
            body: message.body,
            deadline: deadline
        )
    }
}
