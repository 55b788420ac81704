/// A message's properties (AMQP 0-9-1, section 1.8.2). Every string is at most 255 bytes of UTF-8.
public struct MessageProperties: Sendable, Hashable {
    /// The MIME type of the body.
    public var contentType: String?
    /// The MIME encoding of the body.
    public var contentEncoding: String?
    /// Application headers, and what a headers exchange matches on.
    public var headers: FieldTable
    /// Whether the message survives a restart of the broker. `nil` is transient.
    public var deliveryMode: DeliveryMode?
    /// 0 to 9, for queues with a maximum priority.
    public var priority: UInt8?
    /// Ties a reply to its request.
    public var correlationID: String?
    /// The queue that replies go to.
    public var replyTo: String?
    /// How long the message may wait in a queue: milliseconds, as decimal digits.
    public var expiration: String?
    /// The application's id for this message.
    public var messageID: String?
    /// Seconds since 1970.
    public var timestamp: UInt64?
    /// The application's name for this kind of message.
    public var type: String?
    /// The name of the publishing user; the broker closes the channel when it is not the user who is logged in.
    public var userID: String?
    /// The publishing application.
    public var appID: String?

    /// Properties with these values; what is not named is not sent.
    public init(
        contentType: String? = nil,
        contentEncoding: String? = nil,
        headers: FieldTable = FieldTable(),
        deliveryMode: DeliveryMode? = nil,
        priority: UInt8? = nil,
        correlationID: String? = nil,
        replyTo: String? = nil,
        expiration: String? = nil,
        messageID: String? = nil,
        timestamp: UInt64? = nil,
        type: String? = nil,
        userID: String? = nil,
        appID: String? = nil
    ) {
        self.contentType = contentType
        self.contentEncoding = contentEncoding
        self.headers = headers
        self.deliveryMode = deliveryMode
        self.priority = priority
        self.correlationID = correlationID
        self.replyTo = replyTo
        self.expiration = expiration
        self.messageID = messageID
        self.timestamp = timestamp
        self.type = type
        self.userID = userID
        self.appID = appID
    }
}

/// Whether a message survives a restart of the broker in a durable queue.
public enum DeliveryMode: UInt8, Sendable, Hashable {
    /// Kept in memory; lost when the broker restarts.
    case transient = 1
    /// Written to disk by durable queues.
    case persistent = 2
}
