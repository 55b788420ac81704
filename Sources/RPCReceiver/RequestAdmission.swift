import AMQPPool
import NIOCore
import RPCWire

/// Which requests a receiver accepts, according to their envelope.
struct RequestAdmission: Sendable {
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

    /// Why a request is not accepted, `nil` if it is.
    func refusal(of request: any IncomingRequest) -> Refusal? {
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
    func attempts(of request: any IncomingRequest, requeues: Int) -> Int? {
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
