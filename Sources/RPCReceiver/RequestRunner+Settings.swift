import AMQPPool
import RPCWire

extension RequestRunner.Settings {
    /// What a receiver's configuration says of running requests.
    init(_ configuration: RPCReceiverConfiguration, service: String, procedures: Procedures) {
        // The outermost, so that its span is there for the others.
        let tracing = configuration.tracing.resolved.map {
            ReceiverTracing(instruments: $0, service: service, knows: { procedures.knows($0) })
        }
        self.init(
            concurrency: configuration.concurrency,
            handlerTimeLimit: configuration.handlerTimeLimit,
            onFailure: configuration.onFailure,
            deliveryLimit: configuration.deliveryLimit,
            maximumMessageSize: configuration.pool.connection.maximumMessageSize,
            exposesErrors: configuration.exposesErrors,
            deduplication: configuration.deduplication,
            maximumWaiting: configuration.maximumWaiting,
            interceptors: (tracing.map { [$0] } ?? []) + configuration.interceptors
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
