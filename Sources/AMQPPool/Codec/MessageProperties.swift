/// A message's properties (AMQP 0-9-1, section 1.8.2). Every string is at most 255 bytes. Strings written by other clients need not be
/// UTF-8: ``ShortString`` describes how their bytes are preserved.
public struct MessageProperties: Sendable, Hashable {
    /// One reference instead of ten strings, because a message is passed on a dozen times. It is never mutated: changing a property creates
    /// a new box.
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
    /// Application headers; a headers exchange matches on them.
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
    /// Correlates a reply with its request.
    public var correlationID: String? {
        get { fields.correlationID }
        set { fields.correlationID = newValue }
    }
    /// The queue for replies.
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
    /// The application's name for the type of the message.
    public var type: String? {
        get { fields.type }
        set { fields.type = newValue }
    }
    /// The name of the publishing user; the broker closes the channel if it is not the connected user.
    public var userID: String? {
        get { fields.userID }
        set { fields.userID = newValue }
    }
    /// The publishing application.
    public var appID: String? {
        get { fields.appID }
        set { fields.appID = newValue }
    }

    /// Creates properties. Those that are `nil` are not sent.
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

    /// Whether all properties are equal.
    public static func == (left: MessageProperties, right: MessageProperties) -> Bool {
        left.box === right.box || left.fields == right.fields
    }

    /// Hashes all properties.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(fields)
    }

    /// The stored properties.
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
    /// The headers with further routing keys: the broker routes a copy of the message by each.
    static let copyHeaders = ["CC", "BCC"]
}
