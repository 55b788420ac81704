package import AMQPPool
internal import ConcurrencyPrimitives
import NIOCore
import RPCWire
package import Supervision

/// Runs requests from channels of another owner like the receiver's own: with its procedures, limits, deadlines, metrics and interceptors.
/// Queues can therefore be added and removed while it runs.
///
/// It belongs to one incarnation of the receiver's handlers: when that ends, nothing more is answered, and the consumer has to close the
/// channel.
package struct RequestSink: Sendable {
    private let runner: RequestRunner
    /// The process that runs the requests.
    package let pid: Pid

    init(_ parts: ReceiverIncarnation) {
        runner = parts.runner
        pid = parts.pid
    }

    /// Accepts requests of this channel, until ``channelClosed(_:)``.
    package func channelOpened(_ channel: AMQPChannel) {
        runner.channelOpened(ObjectIdentifier(channel))
    }

    /// Accepts a request. Does not block.
    ///
    /// - Parameters:
    ///   - delivery: The request.
    ///   - channel: The channel it was delivered on and is answered on. The end of the channel ends its requests.
    ///   - settled: Called once when it has been answered, acknowledged or rejected; not when the channel ends first. The handler may still
    ///     be running if it does not end at its deadline.
    package func accept(
        _ delivery: Delivery,
        on channel: AMQPChannel,
        settled: @escaping @Sendable () -> Void
    ) {
        let request = SettlingRequest(request: DeliveredRequest(delivery, on: channel), settled: settled)
        runner.accept(request, from: ObjectIdentifier(channel))
    }

    /// The channel has ended or is about to: handlers of its requests are cancelled, and none of them is answered.
    package func channelClosed(_ channel: AMQPChannel) {
        runner.channelClosed(ObjectIdentifier(channel), channel.closedError ?? .channelClosed)
    }
}

extension RPCReceiver {
    /// The current sink; `nil` while the receiver is not running.
    package var sink: RequestSink? { current.value.map(RequestSink.init) }
}

/// A request that reports its settlement.
private struct SettlingRequest: IncomingRequest {
    let request: DeliveredRequest
    let settled: @Sendable () -> Void

    var message: Result<RequestMessage, RPCFailure> { request.message }
    var exchange: String { request.exchange }
    var headers: FieldTable { request.headers }
    var replyTo: String? { request.replyTo }
    var correlationID: String? { request.correlationID }
    var redelivered: Bool { request.redelivered }
    var deliveryCount: Int64? { request.deliveryCount }
    var eventLoop: (any EventLoop)? { request.eventLoop }

    func answer(_ reply: ReplyMessage) {
        request.answer(reply)
        settled()
    }

    func answerAndReject(_ reply: ReplyMessage) {
        request.answerAndReject(reply)
        settled()
    }

    func answerAlone(_ reply: ReplyMessage, over isolated: IsolatedReplies) async -> IsolatedOutcome {
        await request.answerAlone(reply, over: isolated)
    }

    func acknowledge() {
        request.acknowledge()
        settled()
    }

    func reject(requeue: Bool) {
        request.reject(requeue: requeue)
        settled()
    }
}
