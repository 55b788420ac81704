import AMQPPool
import Logging
import NIOCore
import RPCWire

/// The answers to the caller, and the settlement of the request.
extension RequestPolicy {
    /// Answers a request with its handler's outcome, or that of another request with the same id.
    func answer(_ asked: Asked, _ message: RequestMessage, _ outcome: HandlerOutcome, isRepeated: Bool) {
        if isRepeated { counters.repeated() }
        switch outcome {
        case .result(let result):
            let size = result.body.readableBytes
            guard size <= maximumReplySize else { return refuseLarge(asked, size) }
            if !isRepeated { counters.answered() }
            send(ReplyMessage(result: result, correlationID: asked.request.correlationID), to: asked)
        case .failed(let failure):
            if !isRepeated { counters.failed() }
            log.logger.debug("a request failed", metadata: Self.metadata(message, outcome: failure.code))
            refuse(asked, failure)
        case .crashed(let error):
            counters.failed()
            var metadata = Self.metadata(message)
            metadata[LogKey.error.rawValue] = "\(error)"
            let ending = settings.onFailure.ending(redelivered: asked.request.redelivered)
            metadata.merge(outcomeMetadata(of: asked, ending.text(isAnswered: asked.request.replyTo != nil))) { $1 }
            log(.handlerFailed, .error, "a handler failed", metadata)
            let failure = failure(of: error, messageID: message.messageID)
            switch ending {
            case .answerAndAcknowledge: reply(to: asked, failure)
            case .answerAndReject: reject(asked, message, failure)
            case .requeue: requeue(asked, message)
            }
        }
    }

    /// What a caller gets for a handler's own error.
    func failure(of error: any Error, messageID: String?) -> RPCFailure {
        var failure = RPCFailure.handlerFailed
        // The log has the full error under this id.
        failure.details = messageID.map { ["message_id": .string($0)] }
        if settings.exposesErrors { failure.message = "\(error)" }
        return failure
    }

    /// A classic queue does not count redeliveries: they are counted here.
    private func requeue(_ asked: Asked, _ message: RequestMessage) {
        let count = memory.requeued(DeliveryMemory.Key(asked.request))
        guard count >= settings.admission.deliveryLimit else { return asked.request.reject(requeue: true) }
        counters.poisoned()
        reject(asked, message, RPCFailure(code: .poison, message: "its handler failed \(count) times"))
    }

    /// Turns away a request that is not for this receiver, or whose answer must not be sent.
    func turnAway(_ asked: Asked, _ refusal: RequestAdmission.Refusal) {
        switch refusal {
        case .misdirected:
            counters.misdirected()
            log(.misdirected, .warning, "a request matches no binding of this receiver", metadata(of: asked))
            asked.request.reject(requeue: false)
        case .replyQueue(let name):
            counters.unanswerable()
            var metadata = metadata(of: asked)
            metadata[LogKey.error.rawValue] = "replies to \"\(name)\" are not allowed"
            log(.unanswerable, .error, "a call is given up: its reply queue is not allowed", metadata)
            asked.request.reject(requeue: false)
        case .failure(let failure): refuse(asked, failure)
        }
    }

    /// Answers a call with a failure. A cast has nobody to notify: it is rejected, and dead-lettered if its queue is configured so.
    func refuse(_ asked: Asked, _ failure: RPCFailure) {
        guard asked.request.replyTo == nil else { return reply(to: asked, failure) }
        var metadata = metadata(of: asked)
        metadata[LogKey.outcome.rawValue] = "\(failure.code)"
        metadata[LogKey.error.rawValue] = "\(failure)"
        log(.castFailed, .warning, "a cast failed", metadata)
        asked.request.reject(requeue: false)
    }

    func reply(to asked: Asked, _ failure: RPCFailure) {
        guard asked.request.replyTo != nil else { return asked.request.acknowledge() }
        send(message(failure, to: asked), to: asked)
    }

    func reject(_ asked: Asked, _ message: RequestMessage, _ failure: RPCFailure) {
        var metadata = Self.metadata(message)
        metadata[LogKey.error.rawValue] = "\(failure)"
        let ending = RPCFailurePolicy.Ending.answerAndReject
        metadata.merge(outcomeMetadata(of: asked, ending.text(isAnswered: asked.request.replyTo != nil))) { $1 }
        log(.givenUp, .error, "a request is given up", metadata)
        guard asked.request.replyTo != nil else { return asked.request.reject(requeue: false) }
        send(self.message(failure, to: asked), to: asked, rejects: true)
    }

    private func message(_ failure: RPCFailure, to asked: Asked) -> ReplyMessage {
        let reply = ReplyMessage(failure: failure, correlationID: asked.request.correlationID)
        guard reply.body.readableBytes > maximumReplySize else { return reply }
        let short = RPCFailure(code: failure.code, message: "the failure's text exceeds the maximum message size")
        return ReplyMessage(failure: short, correlationID: asked.request.correlationID)
    }

    /// Gives up a call that cannot be answered, because the broker accepts no reply from here: otherwise it would be redelivered forever.
    func giveUp(_ asked: Asked, _ refusal: String) {
        logUnanswerable("a call is given up: the broker takes no replies from this receiver", asked, refusal)
        asked.request.reject(requeue: false)
    }

    /// Gives up a call whose answer the broker refuses by closing its channel or connection.
    func giveUpRefused(_ asked: Asked, _ refusal: String) {
        logUnanswerable("a call is given up: the broker closes the channel or connection of its reply", asked, refusal)
        asked.request.acknowledge()
    }

    private func logUnanswerable(_ text: Logger.Message, _ asked: Asked, _ refusal: String) {
        counters.unanswerable()
        var metadata = metadata(of: asked)
        metadata[LogKey.error.rawValue] = "\(refusal)"
        log(.unanswerable, .error, text, metadata)
    }

    // MARK: Sending

    /// Sends a reply, which settles its request.
    private func send(_ reply: ReplyMessage, to asked: Asked, rejects: Bool = false) {
        let request = asked.request
        guard request.replyTo != nil else { return request.acknowledge() }
        let key = DeliveryMemory.Key(request)
        if asked.isAnsweredAlone || memory.answering(key, reply, on: asked.channel) {
            sendAlone(reply, to: asked, key, rejects: rejects)
        } else if rejects {
            request.answerAndReject(reply)
        } else {
            request.answer(reply)
        }
    }

    private func sendAlone(_ reply: ReplyMessage, to asked: Asked, _ key: DeliveryMemory.Key, rejects: Bool) {
        asked.deliveries.beginSettling()
        // The drain of its channel waits for it.
        Task.detached { [self] in
            let outcome = await asked.request.answerAlone(reply, over: isolated)
            switch memory.ended(key, reply, outcome) {
            case .answered:
                if rejects { asked.request.reject(requeue: false) } else { asked.request.acknowledge() }
            case .triedAgain: asked.request.reject(requeue: true)
            // It was redelivered before the broker's limit was known. The caller gets an error instead of waiting.
            case .givenUp where reply.body.readableBytes > maximumReplySize:
                refuseLarge(asked, reply.body.readableBytes)
            case .givenUp(let text): giveUpRefused(asked, text)
            }
            asked.deliveries.endSettling()
        }
    }

    /// A redelivered request whose handler may have run. Returns how to handle it, unless it ends here.
    func returned(_ asked: Asked) -> Asked? {
        guard asked.request.replyTo != nil else { return asked }
        let key = DeliveryMemory.Key(asked.request)
        switch memory.arrival(of: key) {
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

    /// The smaller of our limit and the broker's.
    private var maximumReplySize: Int { min(settings.maximumMessageSize, brokerLimit.bytes) }

    private func metadata(of asked: Asked) -> Logger.Metadata {
        if case .success(let message) = asked.request.message { return Self.metadata(message) }
        return [LogKey.messageID.rawValue: "\(asked.request.correlationID ?? "")"]
    }

    /// The exchange, the attempt, and the decision, as log metadata.
    private func outcomeMetadata(of asked: Asked, _ decision: String) -> Logger.Metadata {
        let request = asked.request
        let limit = settings.admission.deliveryLimit
        let attempt =
            switch request.deliveryCount {
            case let count? where count >= 0 && count < .max: "\(count + 1) of \(limit)"
            case .some, nil: request.redelivered ? "2 or more" : "1 of \(limit)"
            }
        return [
            LogKey.exchange.rawValue: "\(request.exchange)", LogKey.attempt.rawValue: "\(attempt)",
            LogKey.decision.rawValue: "\(decision)",
        ]
    }

    static func metadata(_ message: RequestMessage, outcome: RPCFailure.Code? = nil) -> Logger.Metadata {
        var metadata: Logger.Metadata = [
            LogKey.procedure.rawValue: "\(message.procedure ?? "")",
            LogKey.messageID.rawValue: "\(message.messageID ?? message.correlationID ?? "")",
        ]
        if let outcome { metadata[LogKey.outcome.rawValue] = "\(outcome)" }
        return metadata.escaped
    }
}

extension RPCFailurePolicy.Ending {
    /// The decision as text for logs.
    fileprivate func text(isAnswered: Bool) -> String {
        switch self {
        case .answerAndAcknowledge:
            isAnswered ? "its caller gets an error, and it is acknowledged" : "it is acknowledged"
        case .answerAndReject: isAnswered ? "its caller gets an error, and it is rejected" : "it is rejected"
        case .requeue: "it is redelivered"
        }
    }
}
