internal import AMQPPool

/// An invalid configuration of a caller or receiver. Nothing was started.
public enum RPCConfigurationError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The service's name is empty, contains a control character, or is so long that the name of its queue exceeds AMQP's 255 bytes.
    case invalidServiceName(String)
    /// The name of the exchange, a queue or a procedure is empty, contains a control character, or exceeds AMQP's 255 bytes.
    case invalidName(String, of: String)
    /// A procedure is listed twice.
    case duplicateProcedure(String)
    /// A procedure of the service's contract is missing.
    case missingProcedure(String, service: String)
    /// A procedure differs from the service's contract, in its types or codecs.
    case differentProcedure(String, service: String)
    /// There is no endpoint to connect to.
    case noEndpoints
    /// A binding is invalid, for this reason.
    case invalidBinding(String)
    /// The value of this setting is invalid, for this reason.
    case invalidSetting(String, why: String)
    /// It is already running: started by itself, and also as part of a tree.
    case alreadyRunning(String)

    /// What to change, as a sentence.
    public var description: String {
        switch self {
        case .invalidServiceName(let name):
            "\"\(name.escaped)\" is not a valid name for a service: it must have 1 to 200 bytes, and no control character"
        case .invalidName(let name, let what):
            "\"\(name.escaped)\" is not a valid name for the \(what): it must have 1 to \(Self.longestName) bytes, and no control character"
        case .duplicateProcedure(let name): "the procedure \"\(name)\" is defined twice"
        case .missingProcedure(let name, let service):
            "the contract of \"\(service)\" declares the procedure \"\(name)\", which is missing"
        case .differentProcedure(let name, let service):
            "the contract of \"\(service)\" declares the procedure \"\(name)\" with other types, or another codec"
        case .noEndpoints: "there is no endpoint to connect to"
        case .invalidBinding(let why): "a binding is invalid: \(why)"
        case .invalidSetting(let name, let why): "\(name) \(why)"
        case .alreadyRunning(let name):
            "\"\(name)\" is already running: start it by itself or make its supervisor part of a tree, not both"
        }
    }

    /// The limit of a short string in AMQP 0-9-1 (section 4.2.5.3).
    private static let longestName = 255

    /// Validates what callers and receivers have in common.
    package static func check(service: String, names: RPCNames) throws(RPCConfigurationError) {
        guard 1...200 ~= service.utf8.count, !service.hasControlCharacter else { throw .invalidServiceName(service) }
        try check(names.exchange, of: "exchange")
    }

    /// Validates the name of an exchange, a queue or a procedure.
    package static func check(_ name: String, of what: String) throws(RPCConfigurationError) {
        guard 1...longestName ~= name.utf8.count, !name.hasControlCharacter else { throw .invalidName(name, of: what) }
    }
}
