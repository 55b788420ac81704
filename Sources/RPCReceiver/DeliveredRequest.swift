import AMQPPool
import NIOCore
import RPCWire

/// A request that came over AMQP. Everything that ends it goes out on the channel it came from, and is nothing once that is closed.
struct DeliveredRequest: IncomingRequest {
    let message: Result<RequestMessage, RPCFailure>
    let replyTo: String?
    let correlationID: String?
    let redelivered: Bool
    let deliveryCount: Int64?
    private let channel: AMQPChannel
    private let deliveryTag: UInt64
    private let limit: BrokerMessageLimit
    private let permission: ReplyPermission

    init(
        _ delivery: Delivery,
        on channel: AMQPChannel,
        limit: BrokerMessageLimit,
        permission: ReplyPermission
    ) {
        self.limit = limit
        self.permission = permission
        message = Result { () throws(RPCFailure) in
            try RequestMessage(properties: delivery.properties, body: delivery.body)
        }
        replyTo = delivery.properties.replyTo.flatMap { $0.isEmpty ? nil : $0 }
        correlationID = delivery.properties.correlationID
        redelivered = delivery.redelivered
        deliveryCount = delivery.properties.headers[Header.deliveryCount]?.wholeNumber
        self.channel = channel
        deliveryTag = delivery.deliveryTag
    }

    func answer(_ reply: ReplyMessage) {
        send(reply)
        channel.acknowledge(deliveryTag)
    }

    func answerAndReject(_ reply: ReplyMessage) {
        send(reply)
        channel.reject(deliveryTag, requeue: false)
    }

    func acknowledge() {
        channel.acknowledge(deliveryTag)
    }

    func reject(requeue: Bool) {
        channel.reject(deliveryTag, requeue: requeue)
    }

    private func send(_ reply: ReplyMessage) {
        guard let replyTo else { return }
        publish(reply, to: replyTo) { outcome in
            // The broker closed the channel for it, and redelivers the request: what it takes, and whether, is known then.
            if case .unknown(let error) = outcome {
                limit.learn(from: error)
                permission.learn(from: error)
            }
            // The reply itself cannot be sent, for example because its code is too long: the caller is told at least that.
            guard case .refused(let error) = outcome else { return }
            publish(ReplyMessage(refused: error, correlationID: correlationID), to: replyTo, outcome: nil)
        }
    }

    private func publish(_ reply: ReplyMessage, to queue: String, outcome: (@Sendable (PublishOutcome) -> Void)?) {
        // The default exchange routes by queue name. Not mandatory: a caller that is gone needs no reply.
        channel.submit(
            Publish(
                exchange: "",
                routingKey: queue,
                properties: reply.properties,
                body: reply.body,
                outcome: outcome
            )
        )
    }
}

extension ReplyMessage {
    /// What is sent instead of a reply that cannot be sent.
    init(refused error: AMQPError, correlationID: String?) {
        let failure = RPCFailure(code: .unencodableResult, message: "the reply cannot be sent: \(error)")
        self.init(failure: failure, correlationID: correlationID)
    }
}
