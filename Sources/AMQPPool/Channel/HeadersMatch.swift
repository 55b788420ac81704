/// The condition of a binding to a headers exchange.
///
///     try await channel.bindQueue("pdf", to: "documents", matching: .all(["format": "pdf", "type": "report"]))
///     try await channel.bindQueue("large", to: "documents", matching: .any(["large": .void]))
///
/// Keys are case-sensitive. A value of ``FieldValue/void`` requires only that the header is present. Text is compared byte by byte,
/// whatever its type.
///
/// A binding without headers matches **every** message, and so does one whose headers are all ignored: with ``Mode/all`` and ``Mode/any``
/// those that begin with `x-`. Both are rejected here. To match everything, bind with the raw arguments.
public struct HeadersMatch: Sendable, Hashable {
    /// How many of the headers must match, and which are compared: `x-match`.
    public enum Mode: String, Sendable, Hashable, CaseIterable {
        /// All of them; headers that begin with `x-` are ignored.
        case all
        /// At least one; headers that begin with `x-` are ignored.
        case any
        /// All of them, including `x-` headers. Since RabbitMQ 3.10.
        case allWithX = "all-with-x"
        /// At least one of them, including `x-` headers. Since RabbitMQ 3.10.
        case anyWithX = "any-with-x"

        fileprivate func looksAt(_ key: String) -> Bool {
            switch self {
            case .all, .any: !key.hasPrefix("x-")
            case .allWithX, .anyWithX: true
            }
        }
    }

    /// How many must match.
    public var mode: Mode
    /// The headers and their required values.
    public var headers: FieldTable

    /// Creates a condition.
    public init(_ mode: Mode, _ headers: FieldTable) {
        self.mode = mode
        self.headers = headers
    }

    /// Matches messages with all of these headers.
    public static func all(_ headers: FieldTable) -> HeadersMatch { HeadersMatch(.all, headers) }

    /// Matches messages with at least one of these headers.
    public static func any(_ headers: FieldTable) -> HeadersMatch { HeadersMatch(.any, headers) }

    /// Matches messages with all of these headers, including `x-` headers.
    public static func allWithX(_ headers: FieldTable) -> HeadersMatch { HeadersMatch(.allWithX, headers) }

    /// Matches messages with at least one of these headers, including `x-` headers.
    public static func anyWithX(_ headers: FieldTable) -> HeadersMatch { HeadersMatch(.anyWithX, headers) }

    /// The arguments of the binding, `x-match` first.
    ///
    /// - Throws: ``AMQPError/invalidArgument(_:)``, when all headers would be ignored, or `x-match` is among them.
    public func fieldTable() throws(AMQPError) -> FieldTable {
        guard headers["x-match"] == nil else { throw .invalidArgument("x-match is the mode, not a header to match") }
        guard headers.entries.contains(where: { mode.looksAt($0.key) }) else {
            throw .invalidArgument("a headers match that compares no header would match every message")
        }
        let match = FieldTable.Entry(key: "x-match", value: .string(mode.rawValue))
        return FieldTable(entries: [match] + headers.entries)
    }
}
