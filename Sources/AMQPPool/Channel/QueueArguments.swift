/// What a queue can be told when it is declared, beyond AMQP 0-9-1: RabbitMQ's `x-` arguments, with their types.
///
///     var arguments = QueueArguments(type: .quorum)
///     arguments.deadLetterExchange = "failed"
///     arguments.deliveryLimit = 5
///     try await channel.declareQueue("orders", arguments: arguments)
///
/// They are checked before anything is sent, as the broker would refuse them (406) and close the channel: numbers within
/// their ranges, and no argument the type of queue does not have. Refused as well is what the broker accepts and then
/// does not do. What is not listed here goes to ``others``.
///
/// A queue that exists must be declared with the same arguments as before. What may change later, as limits do, is better
/// set by a policy of the broker's.
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
    /// How the broker keeps the messages: `x-queue-type`.
    public enum QueueType: String, Sendable, Hashable, CaseIterable {
        /// On one node; gone with it, or unavailable until it is back if it is durable.
        case classic
        /// Replicated by consensus: goes on as long as a majority of its nodes does. Durable always.
        case quorum
        /// A replicated log that is read without being emptied. Durable always.
        case stream
    }

    /// What happens to a message that a full queue has no room for: `x-overflow`.
    public enum Overflow: String, Sendable, Hashable, CaseIterable {
        /// The oldest message makes room, and is dead-lettered. What a queue does that is told nothing.
        case dropHead = "drop-head"
        /// The new one is refused: ``AMQPError/nacked`` with confirms, silently dropped without.
        case rejectPublish = "reject-publish"
        /// The new one is refused, and dead-lettered. Classic queues only.
        case rejectPublishDeadLetter = "reject-publish-dlx"
    }

    /// What dead-lettering promises: `x-dead-letter-strategy`.
    public enum DeadLetterStrategy: String, Sendable, Hashable, CaseIterable {
        /// A message can be lost on its way to the dead letter exchange. What a queue does that is told nothing.
        case atMostOnce = "at-most-once"
        /// A message stays until where it was routed to has confirmed it.
        ///
        /// Only with ``QueueType/quorum``, ``Overflow/rejectPublish`` and a dead letter exchange: without one of these the
        /// broker takes the argument and does not do it, so that is refused here.
        case atLeastOnce = "at-least-once"
    }

    /// Where in a cluster the leader begins: `x-queue-leader-locator`.
    public enum LeaderLocator: String, Sendable, Hashable, CaseIterable {
        /// On the node that this client is connected to. What a queue does that is told nothing.
        case clientLocal = "client-local"
        /// Where there are fewer leaders than elsewhere.
        case balanced
    }

    /// `x-queue-type`; nil is the virtual host's default, classic if it has none.
    public var type: QueueType?
    /// `x-expires`: the queue is deleted after it was not used for this long. 1 ms to 49 days; parts of a millisecond are
    /// rounded up, as in every duration here.
    public var expires: Duration?
    /// `x-message-ttl`: a message is dropped, or dead-lettered, after it waited for this long. Up to 49 days; 0 drops what
    /// cannot be delivered at once.
    public var messageTTL: Duration?
    /// `x-dead-letter-exchange`: where what is rejected, expired or dropped goes. Empty is the default exchange.
    public var deadLetterExchange: String?
    /// `x-dead-letter-routing-key`: the routing key it goes with, in place of its own. Needs ``deadLetterExchange``.
    public var deadLetterRoutingKey: String?
    /// `x-dead-letter-strategy`
    public var deadLetterStrategy: DeadLetterStrategy?
    /// `x-max-length`: how many messages wait at the most.
    public var maximumLength: Int?
    /// `x-max-length-bytes`: how many bytes of bodies wait at the most.
    public var maximumBytes: Int?
    /// `x-overflow`
    public var overflow: Overflow?
    /// `x-max-priority`: messages have priorities from 0 to this. Each costs memory: stay below 10.
    public var maximumPriority: UInt8?
    /// `x-single-active-consumer`: one consumer gets all messages, another one takes over when it goes.
    public var singleActiveConsumer: Bool
    /// `x-delivery-limit`: a message that was redelivered this often is dropped, or dead-lettered. -1 is no limit, from RabbitMQ 4.0
    /// on: there a queue that is declared without a limit has one of 20, and drops without a word what has no dead letter exchange. So
    /// a consumer that requeues for ever, or dead-letters after more than 20 attempts, needs -1 or more than its attempts.
    ///
    /// What counts as redelivered differs: `basic.reject`, a lost channel or connection and a cancelled consumer count on every
    /// version, `basic.nack` up to 4.2 only. ``AMQPChannel/reject(_:requeue:)`` sends the former.
    public var deliveryLimit: Int?
    /// `x-quorum-initial-group-size`: on how many nodes a quorum queue begins.
    public var initialGroupSize: Int?
    /// `x-queue-leader-locator`
    public var leaderLocator: LeaderLocator?
    /// `x-max-age`: how long a stream keeps a message at the least, in whole seconds.
    public var maximumAge: Duration?
    /// `x-stream-max-segment-size-bytes`: how large the files of a stream are. It can drop whole ones only.
    public var segmentBytes: Int?
    /// Arguments that have no name here. They are sent as they are, after the others.
    public var others: FieldTable

    /// Arguments of which only those that are given are set. Each parameter is the property of its name.
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
    /// The arguments as they go over the wire, in a fixed order.
    ///
    /// - Throws: ``AMQPError/invalidArgument(_:)``, which names the argument and what it may be.
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

    /// What the kinds of queues do not have, and what goes only together.
    private func check() throws(AMQPError) {
        let isClassic = type == nil || type == .classic
        try require(deadLetterRoutingKey == nil || deadLetterExchange != nil) {
            "x-dead-letter-routing-key needs x-dead-letter-exchange"
        }
        try require(maximumPriority == nil || isClassic) { "x-max-priority is for classic queues only" }
        try require(overflow != .rejectPublishDeadLetter || isClassic) {
            "x-overflow reject-publish-dlx is for classic queues only"
        }
        try require(deliveryLimit == nil || type == .quorum) { "x-delivery-limit is for quorum queues only" }
        try require(initialGroupSize == nil || type == .quorum) {
            "x-quorum-initial-group-size is for quorum queues only"
        }
        try require(deadLetterStrategy == nil || type == .quorum) {
            "x-dead-letter-strategy is for quorum queues only"
        }
        if deadLetterStrategy == .atLeastOnce {
            try require(overflow == .rejectPublish && deadLetterExchange != nil) {
                "x-dead-letter-strategy at-least-once needs x-overflow reject-publish and x-dead-letter-exchange"
            }
        }
        try require(maximumAge == nil || type == .stream) { "x-max-age is for streams only" }
        try require(segmentBytes == nil || type == .stream) { "x-stream-max-segment-size-bytes is for streams only" }
        guard type == .stream else { return }
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

/// The broker's timers end at 2^32 - 1 milliseconds.
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

/// A stream's age is a text of a number and a unit; seconds are the smallest.
private func age(_ value: Duration?) throws(AMQPError) -> FieldValue? {
    guard let value else { return nil }
    let (seconds, attoseconds) = value.components
    guard seconds >= 0, attoseconds >= 0, seconds < .max, seconds > 0 || attoseconds > 0 else {
        throw .invalidArgument("x-max-age must be more than nothing, not \(value)")
    }
    return .string("\(seconds + (attoseconds > 0 ? 1 : 0))s")
}
