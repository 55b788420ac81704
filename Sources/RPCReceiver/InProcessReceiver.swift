import AMQPPool
import Logging
import RPCWire
import Synchronization

/// A receiver without a broker: its procedures, interceptors, limits and error replies are the same code that runs behind AMQP.
package final class InProcessReceiver: Sendable {
    private let runner: RequestRunner
    private let connection: ConnectionConfiguration

    /// - Throws: Why the receiver would not start with a broker either, except for missing endpoints.
    package init(_ receiver: RPCReceiver) throws(RPCConfigurationError) {
        try receiver.configuration.check(service: receiver.service, procedures: receiver.procedures)
        connection = receiver.configuration.pool.connection
        runner = RequestRunner(
            procedures: receiver.configuration.describesItself
                ? receiver.procedures.describing(receiver.service) : receiver.procedures,
            settings: RequestPolicy.Settings(
                receiver.configuration,
                service: receiver.service,
                procedures: receiver.procedures
            ),
            counters: receiver.counters,
            logger: receiver.logger,
            memory: DeliveryMemory(capacity: 1),
            isolated: IsolatedReplies(connection, logger: receiver.logger)
        )
        runner.channelOpened(ObjectIdentifier(self))
    }

    /// Delivers a request, and passes the answer, if there is one, to `reply`.
    ///
    /// - Parameter reply: Called at most once: not for a cast, nor for a call that the receiver drops.
    package func deliver(_ message: RequestMessage, reply: @escaping @Sendable (ReplyMessage) -> Void) {
        deliver(message, isAgain: false, count: 0, reply)
    }

    private func deliver(
        _ message: RequestMessage,
        isAgain: Bool,
        count: Int64,
        _ reply: @escaping @Sendable (ReplyMessage) -> Void
    ) {
        // Read as from the wire.
        let properties = message.properties
        let read = Result { () throws(RPCFailure) in try RequestMessage(properties: properties, body: message.body) }
        let request = InProcessRequest(
            message: read,
            headers: properties.headers,
            replyTo: message.replyTo,
            correlationID: message.correlationID,
            redelivered: isAgain,
            deliveryCount: count,
            connection: connection,
            reply: reply,
            // As the broker does with requeued messages, whatever has happened to the sender. The receiver's delivery limit ends the loop.
            again: { self.deliver(message, isAgain: true, count: count + 1, reply) }
        )
        runner.accept(request, from: ObjectIdentifier(self))
    }
}

/// A request that did not arrive over AMQP.
private struct InProcessRequest: IncomingRequest {
    let message: Result<RequestMessage, RPCFailure>
    let exchange = ""
    let headers: FieldTable
    let replyTo: String?
    let correlationID: String?
    let redelivered: Bool
    let deliveryCount: Int64?
    let connection: ConnectionConfiguration
    let reply: @Sendable (ReplyMessage) -> Void
    let again: @Sendable () -> Void

    func answer(_ reply: ReplyMessage) {
        guard let replyTo else { return }
        let publish = Publish(exchange: "", routingKey: replyTo, properties: reply.properties, body: reply.body)
        let refusal = publish.refusal(by: connection)
        self.reply(refusal.map { ReplyMessage(refused: $0, correlationID: correlationID) } ?? reply)
    }

    func answerAndReject(_ reply: ReplyMessage) { answer(reply) }
    func answerAlone(_ reply: ReplyMessage, over isolated: IsolatedReplies) async -> IsolatedOutcome {
        answer(reply)
        return .delivered
    }
    func acknowledge() {}
    func reject(requeue: Bool) {
        if requeue { again() }
    }
}

extension RPCReceiver {
    /// The queue of its requests.
    package var queueName: String { configuration.queue ?? configuration.names.requestQueue(of: service) }
}
