/// A caller or receiver is configured in a way that cannot work. Nothing was started.
public enum RPCConfigurationError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The service's name is empty, or so long that the name of its queue would not fit in AMQP's 255 bytes.
    case invalidServiceName(String)
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
        case .duplicateProcedure(let name): "the procedure \"\(name)\" is defined twice"
        case .noEndpoints: "there is no endpoint to connect to"
        case .invalidBinding(let why): "a binding cannot work: \(why)"
        }
    }

    /// Checks what callers and receivers have in common.
    package static func check(service: String, endpoints: Int) throws(RPCConfigurationError) {
        guard 1...200 ~= service.utf8.count, !service.utf8.contains(0) else { throw .invalidServiceName(service) }
        guard endpoints > 0 else { throw .noEndpoints }
    }
}
