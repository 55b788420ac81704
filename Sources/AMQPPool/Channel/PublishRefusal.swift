/// Why the broker closed a channel for a message that was published on it, and for which messages it would do so again.
struct PublishRefusal {
    /// What the refused messages have in common.
    enum Ground: Hashable {
        /// There is no such exchange, or the user may not publish there.
        case exchange(String)
        /// The user may not publish with this routing key there.
        case topic(exchange: String, routingKey: String)
        /// It is not the user who is logged in.
        case user(String)
        /// Known of one message only.
        case message(exchange: String, routingKey: String, userID: String?)
        /// The broker's text does not tell.
        case unknown
    }

    let code: UInt16
    let text: String
    let ground: Ground

    init(_ reason: CloseReason) {
        self.init(code: reason.replyCode, text: reason.replyText)
    }

    init(code: UInt16, text: String) {
        self.code = code
        self.text = text
        ground = Self.ground(text)
    }

    /// `rabbit_channel`, `rabbit_access_control` and `rabbit_exchange` have had these texts since 3.8.
    private static func ground(_ text: String) -> Ground {
        if let user = quoted(after: "user_id property set to '", before: "' but authenticated user", in: text) {
            return .user(user)
        }
        guard let name = quoted(after: "exchange '", before: "' in vhost", in: text) else { return .unknown }
        let exchange = name == "amq.default" ? "" : name
        if let key = quoted(after: "access to topic '", before: "' in exchange", in: text) {
            return .topic(exchange: exchange, routingKey: key)
        }
        return .exchange(exchange)
    }

    private static func quoted(after start: String, before end: String, in text: String) -> String? {
        guard let start = text.firstRange(of: start) else { return nil }
        let rest = text[start.upperBound...]
        guard let end = rest.firstRange(of: end) else { return nil }
        return String(rest[..<end.lowerBound])
    }
}

extension PublishRefusal.Ground {
    /// Whether the message is one of those that are refused. Of ``unknown`` none is known to be.
    func matches(exchange: String, routingKey: String, userID: String?) -> Bool {
        switch self {
        case .exchange(let name): name == exchange
        case .topic(let name, let key): name == exchange && key == routingKey
        case .user(let user): user == userID
        case .message(let name, let key, let user): name == exchange && key == routingKey && user == userID
        case .unknown: false
        }
    }

    func matches(_ message: ConfirmTracker.Identity) -> Bool {
        matches(exchange: message.exchange, routingKey: message.routingKey, userID: message.properties.userID)
    }
}

extension AMQPError {
    /// For whoever uses a channel that the broker closes for somebody else's message.
    static var lostForAnother: AMQPError {
        .channelLost(reason: "the broker closed it for a message that something else published on it")
    }
}
