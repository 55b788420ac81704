/// What a consumer can be told when it begins, beyond AMQP 0-9-1: RabbitMQ's `x-` arguments, with their types.
///
///     ConsumerConfiguration(arguments: ConsumerArguments(priority: 10))
///
/// They are checked before anything is sent. What is not listed here goes to ``others``.
public struct ConsumerArguments: Sendable, Hashable {
    /// Where in a stream a consumer begins: `x-stream-offset`.
    public enum StreamOffset: Sendable, Hashable {
        /// At the oldest message there is.
        case first
        /// At the last chunk of messages.
        case last
        /// At what is published from now on. What a consumer of a stream does that is told nothing.
        case next
        /// At the message with this number, counted from 0, or the next there is.
        case offset(Int64)
        /// At what was published at this second since 1970, or later.
        case timestamp(UInt64)
        /// At what was published this long ago or later, in whole seconds.
        case age(Duration)
    }

    /// `x-priority`: while consumers of higher priority take messages, those of lower priority get none. 0 is what a consumer
    /// has that is told nothing.
    public var priority: Int32?
    /// `x-stream-offset`; streams only. It holds for each time consuming begins: whoever must go on where he was keeps the
    /// offset of what he has dealt with, which is the message's header `x-stream-offset`.
    public var streamOffset: StreamOffset?
    /// Arguments that have no name here. They are sent as they are, after the others.
    public var others: FieldTable

    /// No arguments, or these.
    public init(priority: Int32? = nil, streamOffset: StreamOffset? = nil, others: FieldTable = FieldTable()) {
        self.priority = priority
        self.streamOffset = streamOffset
        self.others = others
    }

    /// The arguments as they go over the wire, in a fixed order.
    ///
    /// - Throws: ``AMQPError/invalidArgument(_:)``, which names the argument and what it may be.
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
                throw .invalidArgument("x-stream-offset must be more than nothing ago, not \(age)")
            }
            return .string("\(seconds + (attoseconds > 0 ? 1 : 0))s")
        }
    }
}
