import AMQPPool
internal import ConcurrencyPrimitives
import NIOCore
import RPCWire

/// Which requests a receiver accepts, and until when.
///
/// The order is fixed: the envelope of the request, whether the broker accepts replies, the history of a redelivered request, its content,
/// the number of attempts, its deadline. The first of these that speaks against the request decides.
struct RequestAdmission: Sendable {
    /// What follows from the arrival of a request.
    enum Step: Sendable {
        /// It is redelivered: look up its history, and pass that to ``decide(_:_:_:at:)``.
        case lookUpHistory
        case decided(Decision)
    }

    /// What to do with a delivered request.
    enum Decision: Sendable {
        case accept(Accepted)
        case turnAway(Refusal)
        /// The broker accepts no replies from here, with this text.
        case giveUpUnanswerable(String)
        /// The broker refused its answer before, with this text.
        case giveUpRefused(String)
        /// Its handler has run: send this answer alone.
        case answerAlone(ReplyMessage)
        /// Its handler has run, and its answer has more bytes than an answer may have.
        case refuseLargeAnswer(size: Int)
        case refuseUnreadable(RPCFailure)
        /// It was delivered this many times without an answer.
        case giveUpPoison(RequestMessage, attempts: Int)
        /// Its caller has given up.
        case dropExpired
    }

    /// A request whose handler may run.
    struct Accepted: Sendable {
        let message: RequestMessage
        let deadline: CompactInstant
        /// Whether the deadline is the caller's, instead of the receiver's own limit.
        let isCallersDeadline: Bool
        /// Whether its answer must not share a connection with others.
        let isAnsweredAlone: Bool
    }

    /// What is known here about the earlier deliveries of a request.
    struct History: Sendable {
        var answer = DeliveryHistory<ObjectIdentifier>.Arrival.run
        /// How often its handler failed here.
        var requeues = 0
        /// When its caller gives up, counted from its first delivery here.
        var deadline: CompactInstant?
    }

    struct Limits: Sendable {
        var handlerTimeLimit: Duration
        var maximumReplySize: Int
    }

    /// Why a request is not accepted.
    enum Refusal: Sendable, Equatable {
        /// It matches none of the receiver's bindings: the exchange has another type than expected, or an old binding exists.
        case misdirected
        /// The receiver must not send replies to this queue.
        case replyQueue(String)
        /// The caller gets this failure.
        case failure(RPCFailure)
    }

    /// The queue that requests are consumed from.
    var queue: String
    /// The exchange that they are published to, unless they are sent to the queue by name.
    var exchange: String
    /// What requests from the exchange have to match: the arguments of each headers binding. If empty, that is not checked.
    var bindings: [FieldTable] = []
    var replyQueues = RPCReplyQueues.notRequestQueues
    var names = RPCNames()
    /// The number of deliveries without an answer after which a request is given up.
    var deliveryLimit: Int
    /// Whether the broker counts deliveries in this queue; `nil` if unknown.
    var brokerCounts: Bool?
    /// The largest accepted body.
    var maximumRequestSize: Int = .max

    /// A request has been delivered.
    ///
    /// - Parameters:
    ///   - isRedelivered: Whether it may have been delivered before, according to the broker or to its history here.
    ///   - brokerRefusal: The broker's text, if it accepts no replies from this receiver.
    func arrived(
        _ request: any IncomingRequest,
        isRedelivered: Bool,
        brokerRefusal: String?,
        _ limits: Limits,
        at now: CompactInstant
    ) -> Step {
        if let refusal = refusal(of: request) { return .decided(.turnAway(refusal)) }
        if let brokerRefusal, request.replyTo != nil { return .decided(.giveUpUnanswerable(brokerRefusal)) }
        return isRedelivered ? .lookUpHistory : .decided(decide(request, History(), limits, at: now))
    }

    /// Decides about a request whose envelope is accepted.
    func decide(_ request: any IncomingRequest, _ history: History, _ limits: Limits, at now: CompactInstant)
        -> Decision
    {
        var isAnsweredAlone = false
        if request.replyTo != nil {
            switch history.answer {
            case .run: break
            case .giveUp(let text): return .giveUpRefused(text)
            case .answerAlone(let reply):
                let size = reply.body.readableBytes
                return size <= limits.maximumReplySize ? .answerAlone(reply) : .refuseLargeAnswer(size: size)
            case .runAndAnswerAlone(let size):
                guard size <= limits.maximumReplySize else { return .refuseLargeAnswer(size: size) }
                isAnsweredAlone = true
            }
        }
        let message: RequestMessage
        switch request.message {
        case .success(let read): message = read
        case .failure(let failure): return .refuseUnreadable(failure)
        }
        if let attempts = attempts(of: request, requeues: history.requeues) {
            return .giveUpPoison(message, attempts: attempts)
        }
        let ownDeadline = now + limits.handlerTimeLimit
        let callersDeadline = [message.timeoutMilliseconds.map { now + .milliseconds($0) }, history.deadline]
            .compactMap { $0 }.min()
        if let callersDeadline, callersDeadline <= now { return .dropExpired }
        let deadline = min(ownDeadline, callersDeadline ?? ownDeadline)
        return .accept(
            Accepted(
                message: message,
                deadline: deadline,
                isCallersDeadline: deadline == callersDeadline,
                isAnsweredAlone: isAnsweredAlone
            )
        )
    }

    /// Why a request's envelope is not accepted, `nil` if it is.
    private func refusal(of request: any IncomingRequest) -> Refusal? {
        if isMisdirected(request) { return .misdirected }
        if let replyTo = request.replyTo, !replyQueues.allows(replyTo, names: names, own: queue) {
            return .replyQueue(replyTo)
        }
        if case .success(let message) = request.message, message.body.readableBytes > maximumRequestSize {
            let size = message.body.readableBytes
            let text = "the request has \(size) bytes, the limit is \(maximumRequestSize)"
            return .failure(RPCFailure(code: .undecodableRequest, message: text))
        }
        return nil
    }

    private func isMisdirected(_ request: any IncomingRequest) -> Bool {
        guard request.exchange == exchange, !bindings.isEmpty else { return false }
        // The broker has seen the headers of an unreadable message; nobody else has.
        if case .failure = request.message, request.headers.isEmpty { return false }
        return !bindings.contains { $0.matches(request.headers) }
    }

    /// The number of attempts of a request, if the limit is reached.
    ///
    /// The header is the broker's only if the queue counts and the message was redelivered; otherwise its publisher wrote it.
    ///
    /// - Parameter requeues: How often its handler failed here.
    private func attempts(of request: any IncomingRequest, requeues: Int) -> Int? {
        var count = requeues
        if request.redelivered, brokerCounts != false, let said = request.deliveryCount {
            count = max(count, Int(clamping: min(max(0, said), Int64(Int32.max))))
        }
        return count > 0 && count >= deliveryLimit ? count : nil
    }
}

extension RPCReplyQueues {
    /// Whether replies may be sent to a queue of this name.
    func allows(_ name: String, names: RPCNames, own: String) -> Bool {
        if name == own { return self == .any }
        switch self {
        case .any: return true
        case .notRequestQueues:
            // Without a suffix a request queue looks like any other.
            guard !names.requestQueueSuffix.isEmpty else { return Self.isCallers(name, names) }
            return !name.hasSuffix(names.requestQueueSuffix)
        case .callersOnly: return Self.isCallers(name, names)
        case .prefixes(let prefixes): return prefixes.contains { name.hasPrefix($0) }
        }
    }

    /// Whether it is named like the reply queues of callers: `<service>.replies.<uuid>`, or the broker's own.
    private static func isCallers(_ name: String, _ names: RPCNames) -> Bool {
        if name.hasPrefix("amq.") { return true }
        guard RequestID(String(name.suffix(36))) != nil else { return false }
        return name.dropLast(36).hasSuffix(names.replyQueueInfix)
    }
}

extension FieldTable {
    /// Whether a message with these headers matches this table as the arguments of a binding to a headers exchange.
    func matches(_ headers: FieldTable) -> Bool {
        let mode: String = if case .string(let mode) = self["x-match"] { mode } else { "all" }
        let countsX = mode.hasSuffix("-with-x")
        let wanted = entries.lazy.filter { $0.key != "x-match" && (countsX || !$0.key.hasPrefix("x-")) }
        let isMatch = { (entry: FieldTable.Entry) -> Bool in
            guard let value = headers[entry.key] else { return false }
            return entry.value == .void || entry.value == value
        }
        return mode.hasPrefix("any") ? wanted.contains(where: isMatch) : wanted.allSatisfy(isMatch)
    }
}
