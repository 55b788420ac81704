import AMQPPool
import NIOCore
import RPCWire

/// A request that arrived over AMQP. Everything that ends it is sent on its channel, and has no effect once that is closed.
final class DeliveredRequest: IncomingRequest {
    let message: Result<RequestMessage, RPCFailure>
    let exchange: String
    let headers: FieldTable
    let replyTo: String?
    let correlationID: String?
    let redelivered: Bool
    let deliveryCount: Int64?
    private let channel: AMQPChannel
    private let deliveryTag: UInt64

    init(_ delivery: Delivery, on channel: AMQPChannel) {
        message = Result { () throws(RPCFailure) in
            try RequestMessage(properties: delivery.properties, body: delivery.body)
        }
        exchange = delivery.exchange
        headers = delivery.properties.headers
        replyTo = delivery.properties.replyTo.flatMap { $0.isEmpty ? nil : $0 }
        correlationID = delivery.properties.correlationID
        redelivered = delivery.redelivered
        deliveryCount = delivery.properties.headers[Header.deliveryCount]?.wholeNumber
        self.channel = channel
        deliveryTag = delivery.deliveryTag
    }

    /// Creates a request that cannot be accepted, because its headers are nested too deeply or its body is too large. The sender gets an
    /// answer.
    init(_ refused: RefusedDelivery, on channel: AMQPChannel) {
        let properties = refused.properties
        message = .failure(
            RPCFailure(code: .undecodableRequest, message: "the request cannot be read: \(refused.reason)")
        )
        exchange = refused.exchange
        // Headers that could not be read are missing.
        headers = FieldTable()
        replyTo = properties?.replyTo.flatMap { $0.isEmpty ? nil : $0 }
        correlationID = properties?.correlationID
        redelivered = refused.redelivered
        deliveryCount = nil
        self.channel = channel
        deliveryTag = refused.deliveryTag
    }

    var eventLoop: (any EventLoop)? { channel.eventLoop }

    func answer(_ reply: ReplyMessage) {
        send(reply)
        channel.acknowledge(deliveryTag)
    }

    func answerAndReject(_ reply: ReplyMessage) {
        send(reply)
        channel.reject(deliveryTag, requeue: false)
    }

    func answerAlone(_ reply: ReplyMessage, over isolated: IsolatedReplies) async -> IsolatedOutcome {
        guard let replyTo else { return .delivered }
        return await isolated.send(reply, to: replyTo, at: channel.connection.endpoint)
    }

    func acknowledge() {
        channel.acknowledge(deliveryTag)
    }

    func reject(requeue: Bool) {
        channel.reject(deliveryTag, requeue: requeue)
    }

    private func send(_ reply: ReplyMessage) {
        if let replyTo { publish(reply, to: replyTo, observer: self) }
    }

    private func publish(_ reply: ReplyMessage, to queue: String, observer: (any PublishObserver)?) {
        // The default exchange routes by queue name. Not mandatory: a caller that has ended needs no reply.
        channel.submit(
            Publish(
                exchange: "",
                routingKey: queue,
                properties: reply.properties,
                body: reply.body,
                observer: observer,
                tellsFailuresOnly: true
            )
        )
    }
}

extension DeliveredRequest: PublishObserver {
    func mayWrite(_ attempt: Int) -> Bool { true }

    func published(_ attempt: Int, _ outcome: PublishOutcome) {
        // The reply itself cannot be sent, for example because its code is too long: the caller gets at least that error.
        guard case .refused(let error) = outcome, let replyTo else { return }
        publish(ReplyMessage(refused: error, correlationID: correlationID), to: replyTo, observer: nil)
    }
}

extension ReplyMessage {
    /// The reply sent instead of one that cannot be sent.
    init(refused error: AMQPError, correlationID: String?) {
        let failure = RPCFailure(code: .unencodableResult, message: "the reply cannot be sent: \(error)")
        self.init(failure: failure, correlationID: correlationID)
    }
}
