/// Why the broker closed a channel because of a published message, and which other messages it would refuse.
package struct PublishRefusal {
    /// The common property of the refused messages.
    enum Ground: Hashable {
        /// The exchange does not exist, or the user may not publish to it.
        case exchange(String)
        /// The user may not publish with this routing key to this exchange.
        case topic(exchange: String, routingKey: String)
        /// The message's user id is not the connected user.
        case user(String)
        /// The body exceeds the broker's configured limit.
        case size(limit: Int)
        /// Known for a single message only.
        case message(exchange: String, routingKey: String, userID: String?)
        /// The broker's text does not say.
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

    /// The texts of `rabbit_channel`, `rabbit_access_control` and `rabbit_exchange` since 3.8.
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

    /// Parses "message size 2000 is larger than configured max size 1000"; the wording differs between versions of RabbitMQ.
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
    /// Whether the message would be refused for the same reason. Never true for ``unknown``.
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
    /// The error for other users of a channel that the broker closed because of a message.
    static var lostForAnother: AMQPError {
        .channelLost(reason: "the broker closed it because of another message published on it")
    }
}
