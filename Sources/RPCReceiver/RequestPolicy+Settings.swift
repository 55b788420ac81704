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
        /// How many calls may wait for a place here; one more is answered as overloaded. `nil`: what is delivered waits.
        var maximumWaiting: Int?
        /// Ours, then those that were configured.
        var interceptors: [any RPCReceiverInterceptor] = []
    }
}

extension RequestPolicy.Settings {
    /// What a receiver's configuration says of running requests.
    init(_ configuration: RPCReceiverConfiguration, service: String, procedures: Procedures) {
        // The outermost, so that its span is there for the others.
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
    /// What a receiver's configuration says of requests to turn away.
    init(_ configuration: RPCReceiverConfiguration, service: String, procedures: Procedures) {
        // A configuration that cannot work is refused before anything is received.
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
    /// A request that was received.
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
