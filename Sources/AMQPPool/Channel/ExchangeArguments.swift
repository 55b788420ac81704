/// What an exchange can be told when it is declared, beyond AMQP 0-9-1.
public struct ExchangeArguments: Sendable, Hashable {
    /// `alternate-exchange`: where messages go that no binding takes. One that is taken there counts as routed: it is not
    /// returned.
    public var alternateExchange: String?
    /// Arguments that have no name here. They are sent as they are, after the others.
    public var others: FieldTable

    /// Arguments of an exchange.
    public init(alternateExchange: String? = nil, others: FieldTable = FieldTable()) {
        self.alternateExchange = alternateExchange
        self.others = others
    }

    /// The arguments as they go over the wire.
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
