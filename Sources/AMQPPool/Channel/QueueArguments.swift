/// The arguments of a queue beyond AMQP 0-9-1: RabbitMQ's `x-` arguments, with their types.
///
///     var arguments = QueueArguments(type: .quorum)
///     arguments.deadLetterExchange = "failed"
///     arguments.deliveryLimit = 5
///     try await channel.declareQueue("orders", arguments: arguments)
///
/// They are validated before anything is sent, because the broker would refuse them (406) and close the channel: numbers must be in range,
/// and arguments must suit the queue type. Combinations that the broker accepts but ignores are rejected too. Arguments not listed here go
/// to ``others``.
///
/// An existing queue must be declared with the same arguments. Settings that may change later, such as limits, are better set by a policy
/// of the broker.
///
/// | | classic | quorum | stream |
/// |---|---|---|---|
/// | ``expires``, ``messageTTL``, ``deadLetterExchange``, ``maximumLength``, ``overflow``, ``singleActiveConsumer`` | yes | yes | no |
/// | ``maximumBytes`` | yes | yes | yes |
/// | ``leaderLocator`` | with brokers newer than 3.10 | yes | yes |
/// | ``maximumPriority`` | yes | no | no |
/// | ``deadLetterStrategy``, ``deliveryLimit``, ``initialGroupSize`` | no | yes | no |
/// | ``maximumAge``, ``segmentBytes`` | no | no | yes |
public struct QueueArguments: Sendable, Hashable {
    /// How the broker stores the messages: `x-queue-type`.
    public enum QueueType: String, Sendable, Hashable, CaseIterable {
        /// On one node. If the node fails, a durable queue is unavailable until it is back; any other queue is lost.
        case classic
        /// Replicated by consensus: available while a majority of its nodes is. Always durable.
        case quorum
        /// A replicated log; reading does not remove messages. Always durable.
        case stream

        /// Whether it may be transient, exclusive or deleted with its last consumer.
        var isClassic: Bool {
            switch self {
            case .classic: true
            case .quorum, .stream: false
            }
        }

        /// Whether the broker counts deliveries, and limits them.
        var isQuorum: Bool {
            switch self {
            case .quorum: true
            case .classic, .stream: false
            }
        }

        /// Whether it is a log, out of which nothing is taken.
        package var isStream: Bool {
            switch self {
            case .stream: true
            case .classic, .quorum: false
            }
        }
    }

    /// What happens to a message when the queue is full: `x-overflow`.
    public enum Overflow: String, Sendable, Hashable, CaseIterable {
        /// The oldest message is removed and dead-lettered. The broker's default.
        case dropHead = "drop-head"
        /// The new message is refused: ``AMQPError/nacked`` with confirms, silently dropped without.
        case rejectPublish = "reject-publish"
        /// The new message is refused and dead-lettered. Classic queues only.
        case rejectPublishDeadLetter = "reject-publish-dlx"
    }

    /// The guarantee of dead-lettering: `x-dead-letter-strategy`.
    public enum DeadLetterStrategy: String, Sendable, Hashable, CaseIterable {
        /// A message can be lost on its way to the dead letter exchange. The broker's default.
        case atMostOnce = "at-most-once"
        /// A message is kept until the queues it is routed to have confirmed it.
        ///
        /// Requires ``QueueType/quorum``, ``Overflow/rejectPublish`` and a dead letter exchange: otherwise the broker accepts the argument
        /// and ignores it, so it is rejected here.
        case atLeastOnce = "at-least-once"
    }

    /// On which node of a cluster the leader is placed: `x-queue-leader-locator`.
    public enum LeaderLocator: String, Sendable, Hashable, CaseIterable {
        /// On the node that this client is connected to. The broker's default.
        case clientLocal = "client-local"
        /// On a node with fewer leaders than others.
        case balanced
    }

    /// `x-queue-type`; `nil` for the virtual host's default, which is classic unless configured.
    public var type: QueueType?
    /// `x-expires`: the queue is deleted after it has been unused for this long. 1 ms to 49 days; fractions of a millisecond are rounded
    /// up, as in every duration here.
    public var expires: Duration?
    /// `x-message-ttl`: a message is dropped or dead-lettered after it has waited for this long. Up to 49 days; 0 drops messages that
    /// cannot be delivered immediately.
    public var messageTTL: Duration?
    /// `x-dead-letter-exchange`: the exchange for rejected, expired and dropped messages. Empty for the default exchange.
    public var deadLetterExchange: String?
    /// `x-dead-letter-routing-key`: replaces the routing key of dead-lettered messages. Needs ``deadLetterExchange``.
    public var deadLetterRoutingKey: String?
    /// `x-dead-letter-strategy`
    public var deadLetterStrategy: DeadLetterStrategy?
    /// `x-max-length`: the maximum number of waiting messages.
    public var maximumLength: Int?
    /// `x-max-length-bytes`: the maximum number of bytes of waiting bodies.
    public var maximumBytes: Int?
    /// `x-overflow`
    public var overflow: Overflow?
    /// `x-max-priority`: messages have priorities from 0 to this. Each level costs memory: stay below 10.
    public var maximumPriority: UInt8?
    /// `x-single-active-consumer`: one consumer gets all messages; when it ends, another one takes over.
    public var singleActiveConsumer: Bool
    /// `x-delivery-limit`: a message that has been redelivered this often is dropped or dead-lettered. -1, available since RabbitMQ 4.0,
    /// means no limit: since then a queue declared without a limit has a limit of 20, and silently drops messages without a dead letter
    /// exchange. A consumer that requeues forever, or dead-letters after more than 20 attempts, therefore needs -1 or a limit above its
    /// attempts.
    ///
    /// What counts as redelivered depends on the version: `basic.reject`, a lost channel or connection and a cancelled consumer always
    /// count, `basic.nack` only up to 4.2. ``AMQPChannel/reject(_:requeue:)`` sends `basic.reject`.
    public var deliveryLimit: Int?
    /// `x-quorum-initial-group-size`: the number of nodes that a quorum queue starts with.
    public var initialGroupSize: Int?
    /// `x-queue-leader-locator`
    public var leaderLocator: LeaderLocator?
    /// `x-max-age`: the minimum time that a stream keeps a message, in whole seconds.
    public var maximumAge: Duration?
    /// `x-stream-max-segment-size-bytes`: the size of a stream's segment files. Only whole segments are deleted.
    public var segmentBytes: Int?
    /// Arguments without a property here. They are sent unchanged, after the others.
    public var others: FieldTable

    /// Creates arguments. Each parameter sets the property of its name; arguments that are `nil` are not sent.
    public init(
        type: QueueType? = nil,
        expires: Duration? = nil,
        messageTTL: Duration? = nil,
        deadLetterExchange: String? = nil,
        deadLetterRoutingKey: String? = nil,
        deadLetterStrategy: DeadLetterStrategy? = nil,
        maximumLength: Int? = nil,
        maximumBytes: Int? = nil,
        overflow: Overflow? = nil,
        maximumPriority: UInt8? = nil,
        singleActiveConsumer: Bool = false,
        deliveryLimit: Int? = nil,
        initialGroupSize: Int? = nil,
        leaderLocator: LeaderLocator? = nil,
        maximumAge: Duration? = nil,
        segmentBytes: Int? = nil,
        others: FieldTable = FieldTable()
    ) {
        self.type = type
        self.expires = expires
        self.messageTTL = messageTTL
        self.deadLetterExchange = deadLetterExchange
        self.deadLetterRoutingKey = deadLetterRoutingKey
        self.deadLetterStrategy = deadLetterStrategy
        self.maximumLength = maximumLength
        self.maximumBytes = maximumBytes
        self.overflow = overflow
        self.maximumPriority = maximumPriority
        self.singleActiveConsumer = singleActiveConsumer
        self.deliveryLimit = deliveryLimit
        self.initialGroupSize = initialGroupSize
        self.leaderLocator = leaderLocator
        self.maximumAge = maximumAge
        self.segmentBytes = segmentBytes
        self.others = others
    }
}

extension QueueArguments {
    /// The encoded arguments, in a fixed order.
    ///
    /// - Throws: ``AMQPError/invalidArgument(_:)``, which names the argument and its valid values.
    public func fieldTable() throws(AMQPError) -> FieldTable {
        try check()
        var table = FieldTable()
        table["x-queue-type"] = type.map { .string($0.rawValue) }
        table["x-expires"] = try milliseconds(expires, "x-expires", from: 1)
        table["x-message-ttl"] = try milliseconds(messageTTL, "x-message-ttl", from: 0)
        table["x-dead-letter-exchange"] = deadLetterExchange.map { .string($0) }
        table["x-dead-letter-routing-key"] = deadLetterRoutingKey.map { .string($0) }
        table["x-dead-letter-strategy"] = deadLetterStrategy.map { .string($0.rawValue) }
        table["x-max-length"] = try count(maximumLength, "x-max-length", from: 0)
        table["x-max-length-bytes"] = try count(maximumBytes, "x-max-length-bytes", from: 0)
        table["x-overflow"] = overflow.map { .string($0.rawValue) }
        table["x-max-priority"] = maximumPriority.map { .int64(Int64($0)) }
        table["x-single-active-consumer"] = singleActiveConsumer ? true : nil
        table["x-delivery-limit"] = try count(deliveryLimit, "x-delivery-limit", from: -1)
        table["x-quorum-initial-group-size"] = try count(initialGroupSize, "x-quorum-initial-group-size", from: 1)
        table["x-queue-leader-locator"] = leaderLocator.map { .string($0.rawValue) }
        table["x-max-age"] = try age(maximumAge)
        table["x-stream-max-segment-size-bytes"] = try count(segmentBytes, "x-stream-max-segment-size-bytes", from: 1)
        for entry in others.entries {
            guard table[entry.key] == nil else { throw .invalidArgument("\(entry.key) is given twice") }
            table[entry.key] = entry.value
        }
        return table
    }

    /// Rejects arguments that the queue type does not have, and incomplete combinations.
    private func check() throws(AMQPError) {
        let isClassic = type?.isClassic ?? true
        try require(deadLetterRoutingKey == nil || deadLetterExchange != nil) {
            "x-dead-letter-routing-key needs x-dead-letter-exchange"
        }
        try require(maximumPriority == nil || isClassic) { "x-max-priority is for classic queues only" }
        try require(overflow != .rejectPublishDeadLetter || isClassic) {
            "x-overflow reject-publish-dlx is for classic queues only"
        }
        try require(deliveryLimit == nil || type?.isQuorum == true) { "x-delivery-limit is for quorum queues only" }
        try require(initialGroupSize == nil || type?.isQuorum == true) {
            "x-quorum-initial-group-size is for quorum queues only"
        }
        try require(deadLetterStrategy == nil || type?.isQuorum == true) {
            "x-dead-letter-strategy is for quorum queues only"
        }
        if deadLetterStrategy == .atLeastOnce {
            try require(overflow == .rejectPublish && deadLetterExchange != nil) {
                "x-dead-letter-strategy at-least-once needs x-overflow reject-publish and x-dead-letter-exchange"
            }
        }
        try require(maximumAge == nil || type?.isStream == true) { "x-max-age is for streams only" }
        try require(segmentBytes == nil || type?.isStream == true) {
            "x-stream-max-segment-size-bytes is for streams only"
        }
        guard type?.isStream == true else { return }
        let unknown = [
            "x-expires": expires != nil, "x-message-ttl": messageTTL != nil,
            "x-dead-letter-exchange": deadLetterExchange != nil, "x-max-length": maximumLength != nil,
            "x-overflow": overflow != nil, "x-single-active-consumer": singleActiveConsumer,
        ].filter(\.value).keys.min()
        try require(unknown == nil) { "a stream has no \(unknown ?? "such argument")" }
    }
}

private func require(_ condition: Bool, _ text: () -> String) throws(AMQPError) {
    guard condition else { throw .invalidArgument(text()) }
}

/// The maximum of the broker's timers: 2^32 - 1 milliseconds.
private let longestTimer: Int64 = 4_294_967_295

private func milliseconds(_ value: Duration?, _ name: String, from least: Int64) throws(AMQPError) -> FieldValue? {
    guard let value else { return nil }
    let (seconds, attoseconds) = value.components
    let whole = seconds.multipliedReportingOverflow(by: 1000)
    let (fraction, remainder) = attoseconds.quotientAndRemainder(dividingBy: 1_000_000_000_000_000)
    let sum = whole.partialValue.addingReportingOverflow(fraction + (remainder > 0 ? 1 : 0))
    guard !whole.overflow, !sum.overflow, (least...longestTimer).contains(sum.partialValue) else {
        throw .invalidArgument("\(name) takes \(least) to \(longestTimer) milliseconds, not \(value)")
    }
    return .int64(sum.partialValue)
}

private func count(_ value: Int?, _ name: String, from least: Int) throws(AMQPError) -> FieldValue? {
    guard let value else { return nil }
    guard value >= least else { throw .invalidArgument("\(name) must be at least \(least), not \(value)") }
    return .int64(Int64(value))
}

/// A stream's age is text with a number and a unit; seconds are the smallest unit.
private func age(_ value: Duration?) throws(AMQPError) -> FieldValue? {
    guard let value else { return nil }
    let (seconds, attoseconds) = value.components
    guard seconds >= 0, attoseconds >= 0, seconds < .max, seconds > 0 || attoseconds > 0 else {
        throw .invalidArgument("x-max-age must be longer than zero, not \(value)")
    }
    return .string("\(seconds + (attoseconds > 0 ? 1 : 0))s")
}
