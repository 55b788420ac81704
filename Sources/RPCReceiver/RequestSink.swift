package import AMQPPool
internal import ConcurrencyPrimitives
import NIOCore
import RPCWire
package import Supervision

/// Runs requests that come through channels of somebody else's as the receiver runs its own: with its procedures, limits, deadlines,
/// metrics and interceptors. Queues can so come and go while it runs.
///
/// It is that of one incarnation of the receiver's handlers: when that ends, nothing more is answered, and whoever consumes has to close
/// the channel.
package struct RequestSink: Sendable {
    private let runner: RequestRunner
    /// The process that runs the requests.
    package let pid: Pid

    init(_ parts: ReceiverIncarnation) {
        runner = parts.runner
        pid = parts.pid
    }

    /// Requests come through this channel, until ``channelClosed(_:)``.
    package func channelOpened(_ channel: AMQPChannel) {
        runner.channelOpened(ObjectIdentifier(channel))
    }

    /// Takes a request on. Does not block.
    ///
    /// - Parameters:
    ///   - delivery: The request.
    ///   - channel: What it came through, and goes back through. Its end ends the requests that came through it.
    ///   - settled: Called once when it was answered, acknowledged or rejected; not when the channel ends first. The handler may still
    ///     run when it does not end with its deadline.
    package func accept(
        _ delivery: Delivery,
        on channel: AMQPChannel,
        settled: @escaping @Sendable () -> Void
    ) {
        let request = SettlingRequest(request: DeliveredRequest(delivery, on: channel), settled: settled)
        runner.accept(request, from: ObjectIdentifier(channel))
    }

    /// The channel is over, or about to be: the handlers of what came through it are cancelled, and nothing of it is answered.
    package func channelClosed(_ channel: AMQPChannel) {
        runner.channelClosed(ObjectIdentifier(channel), channel.closedError ?? .channelClosed)
    }
}

extension RPCReceiver {
    /// What runs requests now; `nil` while the receiver does not run.
    package var sink: RequestSink? { current.value.map(RequestSink.init) }
}

/// A request that says when it is over.
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
