/// The arguments of an exchange beyond AMQP 0-9-1.
public struct ExchangeArguments: Sendable, Hashable {
    /// `alternate-exchange`: the exchange that receives messages without a matching binding. A message routed there counts as routed, and
    /// is not returned.
    public var alternateExchange: String?
    /// Arguments without a property here. They are sent unchanged, after the others.
    public var others: FieldTable

    /// Creates arguments.
    public init(alternateExchange: String? = nil, others: FieldTable = FieldTable()) {
        self.alternateExchange = alternateExchange
        self.others = others
    }

    /// The encoded arguments.
    ///
    /// - Throws: ``AMQPError/invalidArgument(_:)``, when an argument is given twice or the name is empty.
    public func fieldTable() throws(AMQPError) -> FieldTable {
        guard alternateExchange != "" else {
            throw .invalidArgument("the default exchange cannot be an alternate-exchange")
        }
        var table = FieldTable()
        table["alternate-exchange"] = alternateExchange.map { .string($0) }
        for entry in others.entries {
            guard table[entry.key] == nil else { throw .invalidArgument("\(entry.key) is given twice") }
            table[entry.key] = entry.value
        }
        return table
    }
}
