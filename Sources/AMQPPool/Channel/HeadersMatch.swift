/// The condition of a binding to a headers exchange.
///
///     try await channel.bindQueue("pdf", to: "documents", matching: .all(["format": "pdf", "type": "report"]))
///     try await channel.bindQueue("large", to: "documents", matching: .any(["large": .void]))
///
/// Keys are case-sensitive. A value of ``FieldValue/void`` requires only that the header is present. Text is compared byte by byte,
/// whatever its type.
///
/// A binding without headers matches **every** message, and so does one whose headers are all ignored: with ``all(_:)`` and ``any(_:)``
/// those that begin with `x-`. Both are rejected here. To match everything, bind with the raw arguments.
public enum HeadersMatch: Sendable, Hashable {
    /// Matches messages with all of these headers; headers that begin with `x-` are ignored.
    case all(FieldTable)
    /// Matches messages with at least one of these headers; headers that begin with `x-` are ignored.
    case any(FieldTable)
    /// Matches messages with all of these headers, including `x-` headers. Since RabbitMQ 3.10.
    case allWithX(FieldTable)
    /// Matches messages with at least one of these headers, including `x-` headers. Since RabbitMQ 3.10.
    case anyWithX(FieldTable)

    /// The arguments of the binding, `x-match` first.
    ///
    /// - Throws: ``AMQPError/invalidArgument(_:)``, when all headers would be ignored, or `x-match` is among them.
    public func fieldTable() throws(AMQPError) -> FieldTable {
        switch self {
        case .all(let headers): try Self.fieldTable("all", headers, comparesX: false)
        case .any(let headers): try Self.fieldTable("any", headers, comparesX: false)
        case .allWithX(let headers): try Self.fieldTable("all-with-x", headers, comparesX: true)
        case .anyWithX(let headers): try Self.fieldTable("any-with-x", headers, comparesX: true)
        }
    }

    private static func fieldTable(
        _ mode: String,
        _ headers: FieldTable,
        comparesX: Bool
    ) throws(AMQPError) -> FieldTable {
        guard headers["x-match"] == nil else { throw .invalidArgument("x-match is the mode, not a header to match") }
        guard headers.entries.contains(where: { comparesX || !$0.key.hasPrefix("x-") }) else {
            throw .invalidArgument("a headers match that compares no header would match every message")
        }
        return FieldTable(entries: [FieldTable.Entry(key: "x-match", value: .string(mode))] + headers.entries)
    }
}
