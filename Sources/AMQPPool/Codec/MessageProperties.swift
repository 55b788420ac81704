/// A message's properties (AMQP 0-9-1, section 1.8.2). Every string is at most 255 bytes, which
/// need not be UTF-8 where another client wrote them: ``ShortString`` says how they are kept, and sent on as they came.
public struct MessageProperties: Sendable, Hashable {
    /// One reference to pass from hand to hand, on a way on which a message changes hands a dozen times, instead of ten strings.
    /// It is never written to: whoever changes a property gets a box of his own.
    private var box: Box

    /// The MIME type of the body.
    public var contentType: String? {
        get { fields.contentType }
        set { fields.contentType = newValue }
    }
    /// The MIME encoding of the body.
    public var contentEncoding: String? {
        get { fields.contentEncoding }
        set { fields.contentEncoding = newValue }
    }
    /// Application headers, and what a headers exchange matches on.
    public var headers: FieldTable {
        get { fields.headers }
        set { fields.headers = newValue }
    }
    /// Whether the message survives a restart of the broker. `nil` is transient.
    public var deliveryMode: DeliveryMode? {
        get { fields.deliveryMode }
        set { fields.deliveryMode = newValue }
    }
    /// 0 to 9, for queues with a maximum priority.
    public var priority: UInt8? {
        get { fields.priority }
        set { fields.priority = newValue }
    }
    /// Ties a reply to its request.
    public var correlationID: String? {
        get { fields.correlationID }
        set { fields.correlationID = newValue }
    }
    /// The queue that replies go to.
    public var replyTo: String? {
        get { fields.replyTo }
        set { fields.replyTo = newValue }
    }
    /// How long the message may wait in a queue: milliseconds, as decimal digits.
    public var expiration: String? {
        get { fields.expiration }
        set { fields.expiration = newValue }
    }
    /// The application's id for this message.
    public var messageID: String? {
        get { fields.messageID }
        set { fields.messageID = newValue }
    }
    /// Seconds since 1970.
    public var timestamp: UInt64? {
        get { fields.timestamp }
        set { fields.timestamp = newValue }
    }
    /// The application's name for this kind of message.
    public var type: String? {
        get { fields.type }
        set { fields.type = newValue }
    }
    /// The name of the publishing user; the broker closes the channel when it is not the user who is logged in.
    public var userID: String? {
        get { fields.userID }
        set { fields.userID = newValue }
    }
    /// The publishing application.
    public var appID: String? {
        get { fields.appID }
        set { fields.appID = newValue }
    }

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
        box = Box(
            Fields(
                contentType: contentType,
                contentEncoding: contentEncoding,
                headers: headers,
                deliveryMode: deliveryMode,
                priority: priority,
                correlationID: correlationID,
                replyTo: replyTo,
                expiration: expiration,
                messageID: messageID,
                timestamp: timestamp,
                type: type,
                userID: userID,
                appID: appID
            )
        )
    }

    init(_ fields: Fields) {
        box = Box(fields)
    }

    var fields: Fields {
        get { box.fields }
        set { box = Box(newValue) }
    }

    /// Whether all of them are equal.
    public static func == (left: MessageProperties, right: MessageProperties) -> Bool {
        left.box === right.box || left.fields == right.fields
    }

    /// Hashes all of them.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(fields)
    }

    /// What the properties are.
    struct Fields: Sendable, Hashable {
        var contentType: String?
        var contentEncoding: String?
        var headers: FieldTable = FieldTable()
        var deliveryMode: DeliveryMode?
        var priority: UInt8?
        var correlationID: String?
        var replyTo: String?
        var expiration: String?
        var messageID: String?
        var timestamp: UInt64?
        var type: String?
        var userID: String?
        var appID: String?
    }

    private final class Box: Sendable {
        let fields: Fields

        init(_ fields: Fields) {
            self.fields = fields
        }
    }
}

/// Whether a message survives a restart of the broker in a durable queue.
public enum DeliveryMode: UInt8, Sendable, Hashable {
    /// Kept in memory; lost when the broker restarts.
    case transient = 1
    /// Written to disk by durable queues.
    case persistent = 2
}

extension MessageProperties {
    /// The headers with further routing keys: the broker copies a message to each.
    static let copyHeaders = ["CC", "BCC"]
}
