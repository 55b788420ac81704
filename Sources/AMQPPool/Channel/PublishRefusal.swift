/// Why the broker closed a channel for a message that was published on it, and for which messages it would do so again.
package struct PublishRefusal {
    /// What the refused messages have in common.
    enum Ground: Hashable {
        /// There is no such exchange, or the user may not publish there.
        case exchange(String)
        /// The user may not publish with this routing key there.
        case topic(exchange: String, routingKey: String)
        /// It is not the user who is logged in.
        case user(String)
        /// It is larger than the broker takes, by its settings.
        case size(limit: Int)
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
        if let limit = messageLimit(in: text) { return .size(limit: limit) }
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

    /// Reads "message size 2000 is larger than configured max size 1000"; the wording differs between versions of RabbitMQ.
    package static func messageLimit(in text: String) -> Int? {
        guard let start = text.firstRange(of: "message size ") else { return nil }
        let numbers = text[start.upperBound...].split { !$0.isASCII || !$0.isNumber }.compactMap { Int($0) }
        guard numbers.count >= 2, numbers[0] > numbers[1], numbers[1] > 0 else { return nil }
        return numbers[1]
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
    func matches(exchange: String, routingKey: String, userID: String?, size: Int) -> Bool {
        switch self {
        case .exchange(let name): name == exchange
        case .topic(let name, let key): name == exchange && key == routingKey
        case .user(let user): user == userID
        case .message(let name, let key, let user): name == exchange && key == routingKey && user == userID
        case .size(let limit): size > limit
        case .unknown: false
        }
    }

    func matches(_ message: ConfirmTracker.Identity) -> Bool {
        matches(
            exchange: message.exchange,
            routingKey: message.routingKey,
            userID: message.properties.userID,
            size: message.size
        )
    }
}

extension AMQPError {
    /// For whoever uses a channel that the broker closes for somebody else's message.
    static var lostForAnother: AMQPError {
        .channelLost(reason: "the broker closed it for a message that something else published on it")
    }
}
