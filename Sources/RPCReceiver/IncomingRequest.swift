import AMQPPool
import NIOCore
import RPCWire

/// A delivered request, and the ways to answer it.
///
/// Each method except ``answerAlone(_:over:)`` ends the delivery, and does nothing when its channel has ended.
protocol IncomingRequest: Sendable {
    /// The request, or why it cannot be read.
    var message: Result<RequestMessage, RPCFailure> { get }
    /// The exchange it was published to; empty when it was sent to its queue by name.
    var exchange: String { get }
    var headers: FieldTable { get }
    /// Where the answer to an unreadable message would go.
    var replyTo: String? { get }
    var correlationID: String? { get }
    /// Whether it may have been delivered before.
    var redelivered: Bool { get }
    /// How often it was delivered before, according to a header: a quorum queue's, or its publisher's.
    var deliveryCount: Int64? { get }
    /// The event loop of its connection.
    var eventLoop: (any EventLoop)? { get }
    /// Sends the reply and then, on the same channel, the acknowledgement: the request is acknowledged only after its reply has reached the
    /// broker.
    func answer(_ reply: ReplyMessage)
    /// Sends the reply and then rejects the request: it is dead-lettered if its queue is configured so.
    func answerAndReject(_ reply: ReplyMessage)
    /// Sends the reply on a separate connection, and returns the outcome. Does not end the delivery.
    func answerAlone(_ reply: ReplyMessage, over isolated: IsolatedReplies) async -> IsolatedOutcome
    func acknowledge()
    func reject(requeue: Bool)
}

extension IncomingRequest {
    var eventLoop: (any EventLoop)? { nil }
}
