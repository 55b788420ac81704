/// The arguments of a consumer beyond AMQP 0-9-1: RabbitMQ's `x-` arguments, with their types.
///
///     ConsumerConfiguration(arguments: ConsumerArguments(priority: 10))
///
/// They are validated before anything is sent. Arguments not listed here go to ``others``.
public struct ConsumerArguments: Sendable, Hashable {
    /// Where in a stream a consumer starts: `x-stream-offset`.
    public enum StreamOffset: Sendable, Hashable {
        /// At the oldest message.
        case first
        /// At the last chunk of messages.
        case last
        /// At the next published message. The broker's default for streams.
        case next
        /// At the message with this number, counted from 0, or the next one that exists.
        case offset(Int64)
        /// At the first message published at this second since 1970 or later.
        case timestamp(UInt64)
        /// At the first message published this long ago or later, in whole seconds.
        case age(Duration)
    }

    /// `x-priority`: consumers of lower priority get messages only when those of higher priority cannot take them. The broker's default is
    /// 0.
    public var priority: Int32?
    /// `x-stream-offset`; streams only. It applies each time consuming begins: to resume, store the offset of the last handled message,
    /// which is in the message's header `x-stream-offset`.
    public var streamOffset: StreamOffset?
    /// Arguments without a property here. They are sent unchanged, after the others.
    public var others: FieldTable

    /// Creates arguments.
    public init(priority: Int32? = nil, streamOffset: StreamOffset? = nil, others: FieldTable = FieldTable()) {
        self.priority = priority
        self.streamOffset = streamOffset
        self.others = others
    }

    /// The encoded arguments, in a fixed order.
    ///
    /// - Throws: ``AMQPError/invalidArgument(_:)``, which names the argument and its valid values.
    public func fieldTable() throws(AMQPError) -> FieldTable {
        var table = FieldTable()
        table["x-priority"] = priority.map { .int32($0) }
        table["x-stream-offset"] = try streamOffset?.fieldValue()
        for entry in others.entries {
            guard table[entry.key] == nil else { throw .invalidArgument("\(entry.key) is given twice") }
            table[entry.key] = entry.value
        }
        return table
    }
}

extension ConsumerArguments.StreamOffset {
    fileprivate func fieldValue() throws(AMQPError) -> FieldValue {
        switch self {
        case .first: return "first"
        case .last: return "last"
        case .next: return "next"
        case .offset(let number):
            guard number >= 0 else { throw .invalidArgument("x-stream-offset must be at least 0, not \(number)") }
            return .int64(number)
        case .timestamp(let seconds): return .timestamp(seconds)
        case .age(let age):
            let (seconds, attoseconds) = age.components
            guard seconds >= 0, attoseconds >= 0, seconds < .max, seconds > 0 || attoseconds > 0 else {
                throw .invalidArgument("x-stream-offset must be longer than zero ago, not \(age)")
            }
            return .string("\(seconds + (attoseconds > 0 ? 1 : 0))s")
        }
    }
}
