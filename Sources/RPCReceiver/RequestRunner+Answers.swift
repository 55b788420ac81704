import Logging
import NIOCore
import RPCWire

/// What goes back to the caller, and what becomes of the request in its queue.
extension RequestRunner {
    /// Returns the reply to a handler that ran, for those that are answered with the same; `nil` when there is none to repeat.
    func answer(_ job: Job, _ message: RequestMessage, _ outcome: HandlerOutcome) -> ReplyMessage? {
        let request = job.request
        switch outcome {
        case .result(let result):
            let size = result.body.readableBytes
            guard size <= maximumReplySize else {
                let text = "the result has \(size) bytes, the limit is \(maximumReplySize)"
                counters.failed()
                return reply(to: request, RPCFailure(code: .unencodableResult, message: text))
            }
            counters.answered()
            let reply = ReplyMessage(result: result, correlationID: request.correlationID)
            if message.replyTo == nil { request.acknowledge() } else { request.answer(reply) }
            return reply
        case .failed(let failure):
            counters.failed()
            logger.debug("a request failed", metadata: Self.metadata(message, outcome: failure.code))
            let reply = refuse(request, failure)
            return failure.code.saysThatNothingRan ? nil : reply
        case .crashed(let error):
            counters.failed()
            var metadata = Self.metadata(message)
            metadata[LogKey.error.rawValue] = "\(error)"
            logger.error("a handler failed", metadata: metadata)
            var failure = RPCFailure.handlerFailed
            // Under this id the log says what the caller is not told.
            failure.details = message.messageID.map { ["message_id": .string($0)] }
            if settings.exposesErrors { failure.message = "\(error)" }
            switch settings.onFailure.ending(redelivered: request.redelivered) {
            case .answerAndAcknowledge: return reply(to: request, failure)
            case .answerAndReject: return reject(request, message, failure)
            case .requeue:
                request.reject(requeue: true)
                return nil
            }
        }
    }

    /// A failure is the answer of a call. A cast has nobody to tell: it is rejected, and dead-lettered where its queue says so.
    @discardableResult
    func refuse(_ request: any IncomingRequest, _ failure: RPCFailure) -> ReplyMessage? {
        guard request.replyTo == nil else { return reply(to: request, failure) }
        var metadata = (try? request.message.get()).map { Self.metadata($0) } ?? [:]
        metadata[LogKey.outcome.rawValue] = "\(failure.code)"
        metadata[LogKey.error.rawValue] = "\(failure)"
        logger.warning("a cast failed", metadata: metadata)
        request.reject(requeue: false)
        return nil
    }

    @discardableResult
    func reply(to request: any IncomingRequest, _ failure: RPCFailure) -> ReplyMessage? {
        guard request.replyTo != nil else {
            request.acknowledge()
            return nil
        }
        var reply = ReplyMessage(failure: failure, correlationID: request.correlationID)
        if reply.body.readableBytes > maximumReplySize {
            let short = RPCFailure(code: failure.code, message: "the failure's text is larger than a message may be")
            reply = ReplyMessage(failure: short, correlationID: request.correlationID)
        }
        request.answer(reply)
        return reply
    }

    @discardableResult
    func reject(_ request: any IncomingRequest, _ message: RequestMessage, _ failure: RPCFailure) -> ReplyMessage? {
        logger.error("a request is given up", metadata: Self.metadata(message))
        guard request.replyTo != nil else {
            request.reject(requeue: false)
            return nil
        }
        let reply = ReplyMessage(failure: failure, correlationID: request.correlationID)
        request.answerAndReject(reply)
        return reply
    }

    /// A call that cannot be answered, since the broker takes no reply from here: left to be delivered again, it would be for ever.
    func giveUp(_ request: any IncomingRequest, _ refusal: String) {
        counters.unanswerable()
        var metadata = (try? request.message.get()).map { Self.metadata($0) } ?? [:]
        metadata[LogKey.error.rawValue] = "\(refusal)"
        logger.error("a call is given up: the broker takes no replies from this receiver", metadata: metadata)
        request.reject(requeue: false)
    }

    /// Answers a request with the reply to another one of the same id.
    func replay(_ reply: ReplyMessage, to request: any IncomingRequest) {
        guard request.replyTo != nil else { return request.acknowledge() }
        var reply = reply
        reply.correlationID = request.correlationID
        request.answer(reply)
    }

    /// What we and the broker let through.
    private var maximumReplySize: Int { min(settings.maximumMessageSize, brokerLimit.bytes) }

    static func metadata(_ message: RequestMessage, outcome: RPCFailure.Code? = nil) -> Logger.Metadata {
        var metadata: Logger.Metadata = [
            LogKey.procedure.rawValue: "\(message.procedure ?? "")",
            LogKey.messageID.rawValue: "\(message.messageID ?? "")",
        ]
        if let outcome { metadata[LogKey.outcome.rawValue] = "\(outcome)" }
        return metadata
    }
}

extension ReplyMessage {
    /// The same reply in memory of its own: a body may be a slice of something much larger.
    var compact: ReplyMessage {
        var reply = self
        reply.body = ByteBuffer(bytes: body.readableBytesView)
        return reply
    }
}

extension RequestMessage {
    /// What a deduplication recognises it by.
    var answerID: AnsweredRequests<ReplyMessage>.ID? {
        messageID.map { AnsweredRequests.ID(procedure: procedure, messageID: $0) }
    }
}

extension RPCFailure.Code {
    /// Whether a request that ended with it may be worked on when it comes again.
    fileprivate var saysThatNothingRan: Bool {
        [.unknownProcedure, .undecodableRequest, .unsupportedContentType].contains(self)
    }
}
