/// A caller or receiver is configured in a way that cannot work. Nothing was started.
public enum RPCConfigurationError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The service's name is empty, or so long that the name of its queue would not fit in AMQP's 255 bytes.
    case invalidServiceName(String)
    /// The name of the exchange or of a queue is empty, contains the character NUL, or is longer than AMQP's 255 bytes.
    case invalidName(String, of: String)
    /// A procedure stands twice.
    case duplicateProcedure(String)
    /// There is no endpoint to connect to.
    case noEndpoints
    /// A binding cannot be one, for this reason.
    case invalidBinding(String)

    /// One sentence: what to change.
    public var description: String {
        switch self {
        case .invalidServiceName(let name): "\"\(name)\" is no name for a service: it must have 1 to 200 bytes"
        case .invalidName(let name, let what):
            "\"\(name)\" is no name for the \(what): it must have 1 to \(Self.longestName) bytes, and no NUL"
        case .duplicateProcedure(let name): "the procedure \"\(name)\" is defined twice"
        case .noEndpoints: "there is no endpoint to connect to"
        case .invalidBinding(let why): "a binding cannot work: \(why)"
        }
    }

    /// A short string of AMQP 0-9-1 (section 4.2.5.3).
    private static let longestName = 255

    /// Checks what callers and receivers have in common.
    package static func check(service: String, names: RPCNames) throws(RPCConfigurationError) {
        guard 1...200 ~= service.utf8.count, !service.utf8.contains(0) else { throw .invalidServiceName(service) }
        try check(names.exchange, of: "exchange")
    }

    /// Checks the name of an exchange or a queue.
    package static func check(_ name: String, of what: String) throws(RPCConfigurationError) {
        guard 1...longestName ~= name.utf8.count, !name.utf8.contains(0) else { throw .invalidName(name, of: what) }
    }
}
