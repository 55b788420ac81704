import AMQPPool
import NIOCore
import RPCWire

/// A delivered request, and the way to answer it.
///
/// Each of its methods but ``answerAlone(_:over:)`` ends its delivery, and does nothing once the channel it came from is gone.
protocol IncomingRequest: Sendable {
    /// What it asks, or why that cannot be read.
    var message: Result<RequestMessage, RPCFailure> { get }
    /// The exchange that it came through; empty when it was sent to its queue by name.
    var exchange: String { get }
    var headers: FieldTable { get }
    /// Where an answer to a message that cannot be read would go.
    var replyTo: String? { get }
    var correlationID: String? { get }
    /// Whether it may have been delivered before.
    var redelivered: Bool { get }
    /// How often it was delivered before, as a header says: a quorum queue's, or its publisher's.
    var deliveryCount: Int64? { get }
    /// That of the connection that it came over.
    var eventLoop: (any EventLoop)? { get }
    /// Sends the reply and then, on the same channel, the acknowledgement: so it is acknowledged only after its reply reached the
    /// broker.
    func answer(_ reply: ReplyMessage)
    /// Sends the reply and then rejects the request, for good: it is dead-lettered where its queue says so.
    func answerAndReject(_ reply: ReplyMessage)
    /// Sends the reply on a connection of its own, and tells what the broker did with it. Ends nothing.
    func answerAlone(_ reply: ReplyMessage, over isolated: IsolatedReplies) async -> IsolatedOutcome
    func acknowledge()
    func reject(requeue: Bool)
}

extension IncomingRequest {
    var eventLoop: (any EventLoop)? { nil }
}
