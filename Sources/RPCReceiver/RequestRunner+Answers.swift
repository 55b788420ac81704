import Logging
import NIOCore
import RPCWire

/// What goes back to the caller, and what becomes of the request in its queue.
extension RequestRunner {
    /// Returns the reply to a handler that ran, for those that are answered with the same; `nil` when there is none to repeat.
    func answer(_ job: Job, _ message: RequestMessage, _ outcome: HandlerOutcome) -> ReplyMessage? {
        let asked = job.asked
        switch outcome {
        case .result(let result):
            let size = result.body.readableBytes
            guard size <= maximumReplySize else {
                let text = "the result has \(size) bytes, the limit is \(maximumReplySize)"
                counters.failed()
                return reply(to: asked, RPCFailure(code: .unencodableResult, message: text))
            }
            counters.answered()
            let reply = ReplyMessage(result: result, correlationID: asked.request.correlationID)
            send(reply, to: asked)
            return reply
        case .failed(let failure):
            counters.failed()
            logger.debug("a request failed", metadata: Self.metadata(message, outcome: failure.code))
            let reply = refuse(asked, failure)
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
            switch settings.onFailure.ending(redelivered: asked.request.redelivered) {
            case .answerAndAcknowledge: return reply(to: asked, failure)
            case .answerAndReject: return reject(asked, message, failure)
            case .requeue:
                asked.request.reject(requeue: true)
                return nil
            }
        }
    }

    /// A failure is the answer of a call. A cast has nobody to tell: it is rejected, and dead-lettered where its queue says so.
    @discardableResult
    func refuse(_ asked: Asked, _ failure: RPCFailure) -> ReplyMessage? {
        guard asked.request.replyTo == nil else { return reply(to: asked, failure) }
        var metadata = (try? asked.request.message.get()).map { Self.metadata($0) } ?? [:]
        metadata[LogKey.outcome.rawValue] = "\(failure.code)"
        metadata[LogKey.error.rawValue] = "\(failure)"
        logger.warning("a cast failed", metadata: metadata)
        asked.request.reject(requeue: false)
        return nil
    }

    @discardableResult
    func reply(to asked: Asked, _ failure: RPCFailure) -> ReplyMessage? {
        guard asked.request.replyTo != nil else {
            asked.request.acknowledge()
            return nil
        }
        let reply = message(failure, to: asked)
        send(reply, to: asked)
        return reply
    }

    @discardableResult
    func reject(_ asked: Asked, _ message: RequestMessage, _ failure: RPCFailure) -> ReplyMessage? {
        logger.error("a request is given up", metadata: Self.metadata(message))
        guard asked.request.replyTo != nil else {
            asked.request.reject(requeue: false)
            return nil
        }
        let reply = self.message(failure, to: asked)
        send(reply, to: asked, rejects: true)
        return reply
    }

    private func message(_ failure: RPCFailure, to asked: Asked) -> ReplyMessage {
        let reply = ReplyMessage(failure: failure, correlationID: asked.request.correlationID)
        guard reply.body.readableBytes > maximumReplySize else { return reply }
        let short = RPCFailure(code: failure.code, message: "the failure's text is larger than a message may be")
        return ReplyMessage(failure: short, correlationID: asked.request.correlationID)
    }

    /// A call that cannot be answered, since the broker takes no reply from here: left to be delivered again, it would be for ever.
    func giveUp(_ asked: Asked, _ refusal: String) {
        logUnanswerable("a call is given up: the broker takes no replies from this receiver", asked, refusal)
        asked.request.reject(requeue: false)
    }

    /// A call whose answer the broker refuses by closing the channel or the connection that it comes on.
    func giveUpRefused(_ asked: Asked, _ refusal: String) {
        logUnanswerable("a call is given up: the broker closes what its reply comes on", asked, refusal)
        asked.request.acknowledge()
    }

    private func logUnanswerable(_ text: Logger.Message, _ asked: Asked, _ refusal: String) {
        counters.unanswerable()
        var metadata = (try? asked.request.message.get()).map { Self.metadata($0) } ?? [:]
        metadata[LogKey.error.rawValue] = "\(refusal)"
        logger.error(text, metadata: metadata)
    }

    /// Answers a request with the reply to another one of the same id.
    func replay(_ reply: ReplyMessage, to asked: Asked) {
        var reply = reply
        reply.correlationID = asked.request.correlationID
        send(reply, to: asked)
    }

    // MARK: Sending

    /// Sends a reply, and ends its request with it.
    private func send(_ reply: ReplyMessage, to asked: Asked, rejects: Bool = false) {
        let request = asked.request
        guard let key = RefusedAnswers.Key(request) else { return request.acknowledge() }
        if asked.isAnsweredAlone || refused.answering(key, reply, on: asked.channel) {
            sendAlone(reply, to: asked, key, rejects: rejects)
        } else if rejects {
            request.answerAndReject(reply)
        } else {
            request.answer(reply)
        }
    }

    private func sendAlone(_ reply: ReplyMessage, to asked: Asked, _ key: RefusedAnswers.Key, rejects: Bool) {
        answering(asked)
        // The drain of its channel waits for it.
        Task.detached { [self] in
            let outcome = await asked.request.answerAlone(reply, over: isolated)
            switch refused.ended(key, reply, outcome) {
            case .answered:
                if rejects { asked.request.reject(requeue: false) } else { asked.request.acknowledge() }
            case .triedAgain: asked.request.reject(requeue: true)
            case .givenUp(let text): giveUpRefused(asked, text)
            }
            answered(asked)
        }
    }

    /// A request that was delivered again and whose handler may have run. Returns how it goes on, if it is not ended here.
    func returned(_ asked: Asked) -> Asked? {
        guard let key = RefusedAnswers.Key(asked.request) else { return asked }
        switch refused.arrival(of: key) {
        case .run: return asked
        case .giveUp(let text): giveUpRefused(asked, text)
        case .answerAlone(let reply) where reply.body.readableBytes <= maximumReplySize:
            sendAlone(reply, to: asked, key, rejects: false)
        case .answerAlone(let reply): refuseLarge(asked, reply.body.readableBytes)
        case .runAndAnswerAlone(let size) where size > maximumReplySize: refuseLarge(asked, size)
        case .runAndAnswerAlone:
            var asked = asked
            asked.isAnsweredAlone = true
            return asked
        }
        return nil
    }

    private func refuseLarge(_ asked: Asked, _ size: Int) {
        let text = "the result has \(size) bytes, the limit is \(maximumReplySize)"
        counters.failed()
        reply(to: asked, RPCFailure(code: .unencodableResult, message: text))
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
