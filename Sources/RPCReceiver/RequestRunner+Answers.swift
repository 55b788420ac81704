import Logging
import NIOCore
import RPCWire

/// What goes back to the caller, and what becomes of the request in its queue.
extension RequestRunner {
    func answer(_ job: Job, _ message: RequestMessage, _ outcome: HandlerOutcome) {
        let request = job.request
        switch outcome {
        case .result(let result):
            let size = result.body.readableBytes
            guard size <= settings.maximumMessageSize else {
                let text = "the result has \(size) bytes, the limit is \(settings.maximumMessageSize)"
                counters.failed()
                return reply(to: request, RPCFailure(code: .unencodableResult, message: text))
            }
            counters.answered()
            guard message.replyTo != nil else { return request.acknowledge() }
            request.answer(ReplyMessage(result: result, correlationID: request.correlationID))
        case .failed(let failure):
            counters.failed()
            refuse(request, failure)
        case .crashed(let error):
            counters.failed()
            var metadata = Self.metadata(message)
            metadata["error"] = "\(error)"
            logger.error("a handler failed", metadata: metadata)
            var failure = RPCFailure.handlerFailed
            if settings.exposesErrors { failure.message = "\(error)" }
            switch settings.onFailure.ending(redelivered: request.redelivered) {
            case .answerAndAcknowledge: reply(to: request, failure)
            case .answerAndReject: reject(request, message, failure)
            case .requeue: request.reject(requeue: true)
            }
        }
    }

    /// A failure is the answer of a call. A cast has nobody to tell: it is rejected, and dead-lettered where its queue says so.
    func refuse(_ request: any IncomingRequest, _ failure: RPCFailure) {
        if request.replyTo == nil {
            logger.warning("a cast failed", metadata: ["error": "\(failure)"])
            request.reject(requeue: false)
        } else {
            reply(to: request, failure)
        }
    }

    func reply(to request: any IncomingRequest, _ failure: RPCFailure) {
        guard request.replyTo != nil else { return request.acknowledge() }
        var reply = ReplyMessage(failure: failure, correlationID: request.correlationID)
        if reply.body.readableBytes > settings.maximumMessageSize {
            let short = RPCFailure(code: failure.code, message: "the failure's text is larger than a message may be")
            reply = ReplyMessage(failure: short, correlationID: request.correlationID)
        }
        request.answer(reply)
    }

    func reject(_ request: any IncomingRequest, _ message: RequestMessage, _ failure: RPCFailure) {
        logger.error("a request is given up", metadata: Self.metadata(message))
        guard request.replyTo != nil else { return request.reject(requeue: false) }
        request.answerAndReject(ReplyMessage(failure: failure, correlationID: request.correlationID))
    }

    static func metadata(_ message: RequestMessage) -> Logger.Metadata {
        ["rpc.procedure": "\(message.procedure ?? "")", "rpc.message_id": "\(message.messageID ?? "")"]
    }
}
