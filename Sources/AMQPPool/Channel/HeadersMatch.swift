/// Which messages a headers exchange routes along a binding.
///
///     try await channel.bindQueue("pdf", to: "documents", matching: .all(["format": "pdf", "type": "report"]))
///     try await channel.bindQueue("large", to: "documents", matching: .any(["large": .void]))
///
/// Keys are case sensitive. A value of ``FieldValue/void`` asks only that the header is there. A text is compared byte by
/// byte, whatever its type.
///
/// A binding to no header at all matches **every** message, and so does one to headers that are not looked at: with
/// ``Mode/all`` and ``Mode/any`` those that begin with `x-`. Both are refused here. To match everything, bind with the
/// arguments themselves.
public struct HeadersMatch: Sendable, Hashable {
    /// How many of the headers must match, and which are looked at: `x-match`.
    public enum Mode: String, Sendable, Hashable, CaseIterable {
        /// All of them; those that begin with `x-` are not looked at.
        case all
        /// At least one; those that begin with `x-` are not looked at.
        case any
        /// All of them. From RabbitMQ 3.10 on.
        case allWithX = "all-with-x"
        /// At least one. From RabbitMQ 3.10 on.
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
    /// The headers, and the values they must have.
    public var headers: FieldTable

    /// A match of these headers.
    public init(_ mode: Mode, _ headers: FieldTable) {
        self.mode = mode
        self.headers = headers
    }

    /// Messages that have all of these headers.
    public static func all(_ headers: FieldTable) -> HeadersMatch { HeadersMatch(.all, headers) }

    /// Messages that have at least one of these headers.
    public static func any(_ headers: FieldTable) -> HeadersMatch { HeadersMatch(.any, headers) }

    /// Messages that have all of these headers, `x-` ones included.
    public static func allWithX(_ headers: FieldTable) -> HeadersMatch { HeadersMatch(.allWithX, headers) }

    /// Messages that have at least one of these headers, `x-` ones included.
    public static func anyWithX(_ headers: FieldTable) -> HeadersMatch { HeadersMatch(.anyWithX, headers) }

    /// The arguments of the binding, `x-match` first.
    ///
    /// - Throws: ``AMQPError/invalidArgument(_:)``, when no header would be looked at, or `x-match` is among them.
    public func fieldTable() throws(AMQPError) -> FieldTable {
        guard headers["x-match"] == nil else { throw .invalidArgument("x-match is the mode, not a header to match") }
        guard headers.entries.contains(where: { mode.looksAt($0.key) }) else {
            throw .invalidArgument("a headers match that looks at no header would match every message")
        }
        let match = FieldTable.Entry(key: "x-match", value: .string(mode.rawValue))
        return FieldTable(entries: [match] + headers.entries)
    }
}
