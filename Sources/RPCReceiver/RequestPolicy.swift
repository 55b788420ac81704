import AMQPPool
internal import ConcurrencyPrimitives
import Logging
import NIOCore
import RPCWire

/// The policy of a receiver on top of ``DeliveryRunner``: which requests are accepted, until when, and what each outcome means.
///
/// Each delivery is a request. Its reply and then its acknowledgement, on the same channel, settle it. ``AnsweredRequests``,
/// ``DeliveryHistory``, ``RequestAdmission`` and ``RPCFailurePolicy`` decide what an outcome means.
final class RequestPolicy: Sendable {
    /// A delivered request and its channel.
    struct Asked: Sendable {
        let request: any IncomingRequest
        let channel: ObjectIdentifier
        /// The runner of the request.
        let deliveries: DeliveryRunner
        /// Whether it may have been delivered before, according to the broker or to what is remembered.
        var isRedelivered = false
        /// Whether its answer must not share a connection with others: see ``DeliveryHistory``.
        var isAnsweredAlone = false
    }

    /// An accepted request.
    final class Job: DeliveredMessage {
        let asked: Asked
        let message: RequestMessage
        let began: CompactInstant
        let deadline: CompactInstant
        /// Whether the deadline is the caller's, instead of the receiver's own limit.
        let isCallersDeadline: Bool

        init(_ asked: Asked, _ accepted: RequestAdmission.Accepted, began: CompactInstant) {
            self.asked = asked
            message = accepted.message
            self.began = began
            deadline = accepted.deadline
            isCallersDeadline = accepted.isCallersDeadline
        }

        /// The message of an item. All deliveries of a receiver are requests.
        static func of(_ item: DeliveryCore.Item) -> Job? {
            // A cast of an existential would do the same, but costs several hundred instructions.
            type(of: item.message) == Job.self ? unsafeDowncast(item.message, to: Job.self) : nil
        }
    }

    private let procedures: RPCHandlers
    private let settings: Settings
    private let counters: ReceiverCounters
    let brokerLimit: BrokerMessageLimit
    let permission: ReplyPermission
    let memory: DeliveryMemory
    private let isolated: IsolatedReplies
    private let log: RequestLog
    private let logger: Logger
    private let repetitions: RequestRepetitions?
    private let turns: ConnectionTurns

    init(
        procedures: RPCHandlers,
        settings: Settings,
        counters: ReceiverCounters,
        logger: Logger,
        brokerLimit: BrokerMessageLimit,
        permission: ReplyPermission,
        memory: DeliveryMemory,
        isolated: IsolatedReplies
    ) {
        self.procedures = procedures
        self.settings = settings
        self.counters = counters
        self.logger = logger
        self.brokerLimit = brokerLimit
        self.permission = permission
        self.memory = memory
        self.isolated = isolated
        log = RequestLog(logger, queue: settings.admission.queue)
        repetitions = settings.deduplication.map { RequestRepetitions($0) }
        turns = ConnectionTurns(logger: logger)
    }

    /// The settings of the delivery engine.
    var engineSettings: DeliveryCore.Settings {
        var engine = DeliveryCore.Settings()
        engine.concurrency = max(1, settings.concurrency)
        engine.maximumWaiting = settings.maximumWaiting
        // If there are too many, the consumers are suspended, so that other instances get the requests.
        engine.zombies = .counted
        return engine
    }

    /// - Parameter zombiesChanged: Called with the number of handlers that are running after they were given up. Must not block.
    func behavior(zombiesChanged: @escaping @Sendable (Int) -> Void) -> DeliveryRunner.Behavior {
        var behavior = DeliveryRunner.Behavior { [self] run in
            guard let job = Job.of(run.first) else { return [] }
            // Calls made by the handler inherit its deadline.
            let outcome = await RPCDeadline.$inherited.withValue(job.deadline) { await self.run(run.id, job) }
            return ended(run.id, job, outcome)
        }
        behavior.beginning = { [self] run in beginning(run) }
        behavior.onTimeLimit = { [self] item, run in
            guard let job = Job.of(item) else { return .requeue(after: .zero) }
            return expired(job, run)
        }
        // Callers are notified in time, even if handlers block all threads.
        behavior.asksAtTimeLimit = false
        behavior.resume = { [repetitions] run in repetitions?.resume(run) }
        behavior.onLost = { [memory] item in
            guard let job = Job.of(item), job.isCallersDeadline else { return }
            memory.left(DeliveryMemory.Key(job.asked.request), deadline: job.deadline)
        }
        behavior.takeBack = { [repetitions] item, run in
            guard let repetitions, let job = Job.of(item) else { return }
            repetitions.left(run, on: job.asked.deliveries)
        }
        behavior.onEvent = { event in
            switch event {
            case .zombies(let count): zombiesChanged(count)
            case .began, .tripped, .recovered, .publishFailed, .idle: break
            }
        }
        return behavior
    }

    // MARK: Arrivals

    /// Accepts a delivered request. Does not block.
    func accept(_ request: any IncomingRequest, from channel: ObjectIdentifier, on deliveries: DeliveryRunner) {
        counters.received()
        let now = CompactInstant.now
        let isRedelivered = request.redelivered || memory.knows(request)
        let asked = Asked(request: request, channel: channel, deliveries: deliveries, isRedelivered: isRedelivered)
        let limits = RequestAdmission.Limits(
            handlerTimeLimit: settings.handlerTimeLimit,
            maximumReplySize: maximumReplySize
        )
        let brokerRefusal = permission.refusal(at: now.instant)
        switch settings.admission.arrived(
            request,
            isRedelivered: isRedelivered,
            brokerRefusal: brokerRefusal,
            limits,
            at: now
        ) {
        case .decided(let decision): carryOut(decision, asked, at: now)
        case .lookUpHistory:
            counters.redelivered()
            let history = memory.history(of: DeliveryMemory.Key(request))
            carryOut(settings.admission.decide(request, history, limits, at: now), asked, at: now)
        }
    }

    private func carryOut(_ decision: RequestAdmission.Decision, _ asked: Asked, at now: CompactInstant) {
        switch decision {
        case .accept(let accepted): deliver(accepted, asked, at: now)
        case .turnAway(let refusal): turnAway(asked, refusal)
        case .giveUpUnanswerable(let text): giveUp(asked, text)
        case .giveUpRefused(let text): giveUpRefused(asked, text)
        case .answerAlone(let reply): sendAlone(reply, to: asked, DeliveryMemory.Key(asked.request), rejects: false)
        case .refuseLargeAnswer(let size): refuseLarge(asked, size)
        case .refuseUnreadable(let failure):
            counters.unreadable()
            refuse(asked, failure)
        case .giveUpPoison(let message, let attempts):
            counters.poisoned()
            reject(asked, message, RPCFailure(code: .poison, message: "delivered \(attempts) times without an answer"))
        case .dropExpired:
            counters.expired(hadBegun: false)
            asked.request.acknowledge()
        }
    }

    private func deliver(_ accepted: RequestAdmission.Accepted, _ asked: Asked, at now: CompactInstant) {
        var asked = asked
        asked.isAnsweredAlone = accepted.isAnsweredAlone
        let isTaken = asked.deliveries.deliver(
            Job(asked, accepted, began: now),
            from: DeliveryCore.Source(asked.channel),
            timeLeft: now.duration(to: accepted.deadline),
            // A cast has nobody to notify that it was not handled: it waits.
            mayBeRefused: accepted.message.replyTo != nil
        )
        guard !isTaken else { return }
        counters.shed()
        let limit = "\(settings.concurrency) requests run and \(settings.maximumWaiting ?? 0) wait"
        reply(to: asked, RPCFailure(code: .overloaded, message: limit))
    }

    // MARK: Running

    /// Runs the handler of a procedure with the place `onConnection`, if that is possible here and without a task.
    private func beginning(_ run: DeliveryRun) -> DeliveryRunner.Beginning {
        guard let job = Job.of(run.first), let procedure = procedures.onConnection(job.message.procedure),
            turns.mayBegin(job.message.body.readableBytes, on: job.asked.request.eventLoop)
        else { return .inTask }
        guard let handler = procedure.directHandler, settings.interceptors.isEmpty, repetitions == nil else {
            return .atOnce { [turns] body in turns.run(job.message.procedure, body) }
        }
        let outcome = turns.run(job.message.procedure) {
            RPCDeadline.$inherited.withValue(job.deadline) {
                let start = counters.began()
                let outcome = handler(
                    job.message.body,
                    job.message.contentType,
                    context(of: job),
                    settings.passesUpstreamFailures
                )
                if let start { counters.ended(job.message.procedure ?? "", since: start, outcome) }
                return outcome
            }
        }
        return .handled(ended(run.id, job, outcome))
    }

    /// The settlement of a request whose handler has ended.
    private func ended(_ run: DeliveryCore.RunID, _ job: Job, _ outcome: HandlerOutcome) -> Dispositions {
        let isRepeated = repetitions?.ended(run, on: job.asked.deliveries) ?? false
        return Dispositions(.settled { [self] in answer(job.asked, job.message, outcome, isRepeated: isRepeated) })
    }

    private func context(of job: Job) -> RPCContext {
        RPCContext(
            procedure: job.message.procedure ?? "",
            messageID: job.message.messageID,
            redelivered: job.asked.isRedelivered,
            deadline: job.deadline.instant,
            headers: job.message.headers,
            logger: logger
        )
    }

    /// Runs a request's handler in its task.
    private func run(_ run: DeliveryCore.RunID, _ job: Job) async -> HandlerOutcome {
        let message = job.message
        let context = context(of: job)
        guard let start = counters.began() else { return await intercept(run, job, context) }
        let outcome = await intercept(run, job, context)
        let procedure = procedures.knows(message.procedure) ? message.procedure ?? "" : nil
        counters.ended(procedure, since: start, outcome)
        return outcome
    }

    /// The interceptors wrap the deduplication: they see each repetition of a request.
    private func intercept(_ run: DeliveryCore.RunID, _ job: Job, _ context: RPCContext) async -> HandlerOutcome {
        let message = job.message
        let deliveries = job.asked.deliveries
        guard !settings.interceptors.isEmpty else {
            return await answer(run, message.procedure, message.contentType, message.body, context, deliveries)
        }
        let all = RPCReceiverNext(settings.interceptors[...]) { [self] request, context in
            switch await answer(run, request.procedure, request.contentType, request.body, context, deliveries) {
            case .result(let reply): return reply
            case .failed(let failure): throw failure
            case .crashed(let error): throw error
            }
        }
        do {
            return .result(try await all(RPCRequest(message, deadline: context.deadline), context))
        } catch {
            return HandlerOutcome(error, passesUpstreamFailures: settings.passesUpstreamFailures)
        }
    }

    /// Runs the handler, or returns its outcome for another request with the same id.
    private func answer(
        _ run: DeliveryCore.RunID,
        _ procedure: String?,
        _ contentType: String?,
        _ body: ByteBuffer,
        _ context: RPCContext,
        _ deliveries: DeliveryRunner
    ) async -> HandlerOutcome {
        if let repetitions, let messageID = context.messageID {
            let id = RequestRepetitions.ID(procedure: procedure, messageID: messageID)
            switch await repetitions.turn(of: run, id, on: deliveries) {
            case .answered(.result(let reply)): return .result(reply)
            case .answered(.failure(let failure)): return .failed(failure)
            case .givenUp: return .crashed(CancellationError())
            case .run: break
            }
        }
        let outcome = await procedures.handle(
            procedure: procedure,
            contentType: contentType,
            body: body,
            context: context,
            passesUpstreamFailures: settings.passesUpstreamFailures
        )
        if let repetitions {
            // Stored for repetitions, if that is allowed.
            if let answer = repeatable(outcome, context) {
                repetitions.answered(run, answer, on: deliveries)
            } else {
                repetitions.left(run, on: deliveries)
            }
        }
        return outcome
    }

    private func repeatable(_ outcome: HandlerOutcome, _ context: RPCContext) -> RequestRepetitions.Answer? {
        switch outcome {
        case .result(let reply): return .result(reply.compact)
        case .failed(let failure): return failure.code.saysThatNothingRan ? nil : .failure(failure)
        case .crashed(let error):
            let ending = settings.onFailure.ending(redelivered: context.redelivered)
            return ending == .requeue ? nil : .failure(failure(of: error, messageID: context.messageID))
        }
    }

    /// The time limit of a request has passed. Its handler is cancelled, if it has started.
    private func expired(_ job: Job, _ run: DeliveryCore.RunID?) -> Disposition {
        let late = RPCFailure(code: .handlerTimeout, message: "no result within \(settings.handlerTimeLimit)")
        if let run, let repetitions {
            if job.isCallersDeadline {
                repetitions.left(run, on: job.asked.deliveries)
            } else {
                repetitions.answered(run, .failure(late), on: job.asked.deliveries)
            }
        }
        return .settled { [self] in
            if job.isCallersDeadline {
                // Nobody waits for the answer any more.
                counters.expired(hadBegun: run != nil)
                job.asked.request.acknowledge()
            } else {
                counters.timedOut()
                log(.timedOut, .warning, "a handler exceeded its time limit", Self.metadata(job.message))
                reply(to: job.asked, late)
            }
        }
    }
}

extension DeliveryCore.Source {
    /// The source for a channel of requests.
    init(_ channel: ObjectIdentifier) {
        self = UInt64(UInt(bitPattern: channel))
    }
}

extension RPCReply {
    /// The same reply in its own memory: a body may be a slice of a much larger buffer.
    fileprivate var compact: RPCReply {
        var reply = self
        reply.body = ByteBuffer(bytes: body.readableBytesView)
        return reply
    }
}

extension RPCFailure.Code {
    /// Whether a request that ended with this failure may be handled when it is repeated.
    fileprivate var saysThatNothingRan: Bool {
        [.unknownProcedure, .undecodableRequest, .unsupportedContentType].contains(self)
    }
}

/// The answers to the caller, and the settlement of the request.
extension RequestPolicy {
    /// Answers a request with its handler's outcome, or that of another request with the same id.
    private func answer(_ asked: Asked, _ message: RequestMessage, _ outcome: HandlerOutcome, isRepeated: Bool) {
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
            let ending = settings.onFailure.ending(redelivered: asked.isRedelivered)
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
    private func failure(of error: any Error, messageID: String?) -> RPCFailure {
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
    private func turnAway(_ asked: Asked, _ refusal: RequestAdmission.Refusal) {
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
    private func refuse(_ asked: Asked, _ failure: RPCFailure) {
        guard asked.request.replyTo == nil else { return reply(to: asked, failure) }
        var metadata = metadata(of: asked)
        metadata[LogKey.outcome.rawValue] = "\(failure.code)"
        metadata[LogKey.error.rawValue] = "\(failure)"
        log(.castFailed, .warning, "a cast failed", metadata)
        asked.request.reject(requeue: false)
    }

    private func reply(to asked: Asked, _ failure: RPCFailure) {
        guard asked.request.replyTo != nil else { return asked.request.acknowledge() }
        send(message(failure, to: asked), to: asked)
    }

    private func reject(_ asked: Asked, _ message: RequestMessage, _ failure: RPCFailure) {
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
    private func giveUp(_ asked: Asked, _ refusal: String) {
        logUnanswerable("a call is given up: the broker takes no replies from this receiver", asked, refusal)
        asked.request.reject(requeue: false)
    }

    /// Gives up a call whose answer the broker refuses by closing its channel or connection.
    private func giveUpRefused(_ asked: Asked, _ refusal: String) {
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
            case .some, nil: asked.isRedelivered ? "2 or more" : "1 of \(limit)"
            }
        return [
            LogKey.exchange.rawValue: "\(request.exchange)", LogKey.attempt.rawValue: "\(attempt)",
            LogKey.decision.rawValue: "\(decision)",
        ]
    }

    private static func metadata(_ message: RequestMessage, outcome: RPCFailure.Code? = nil) -> Logger.Metadata {
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
