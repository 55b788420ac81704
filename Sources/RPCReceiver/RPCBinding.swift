public import AMQPPool
import RPCWire

/// Which requests the exchange routes to a receiver's queue: those that match at least one of its bindings.
///
///     configuration.bindings = [.service, .destination("arithmetic")]          // one service, two names
///     configuration.bindings = [.procedure("render"), .procedure("preview")]   // only these procedures of the service
///     configuration.bindings = [.headers(.all(["region": "eu"]))]              // whatever has this header
///
/// Receivers with the same queue share its load. Receivers with different queues bound to the same requests each get all of them: then a
/// call is answered more than once, and the first answer counts.
public struct RPCBinding: Sendable, Hashable {
    private enum Kind: Sendable, Hashable {
        case service
        case destination(String)
        case procedure(String, of: String?)
        case procedures
        case headers(HeadersMatch)
    }

    private let kind: Kind

    /// All requests whose destination is the service's own name.
    public static let service = RPCBinding(kind: .service)

    /// All requests for another name, which the service answers to as well.
    public static func destination(_ name: String) -> RPCBinding {
        RPCBinding(kind: .destination(name))
    }

    /// The requests for this procedure only. `destination` is the service's own name by default.
    public static func procedure(_ name: String, of destination: String? = nil) -> RPCBinding {
        RPCBinding(kind: .procedure(name, of: destination))
    }

    /// The requests for the service's procedures, each by its name: others are unroutable instead of unknown.
    public static let procedures = RPCBinding(kind: .procedures)

    /// All requests with matching headers, whatever their destination. An empty match, which would match every request, is rejected when
    /// the receiver starts.
    public static func headers(_ match: HeadersMatch) -> RPCBinding {
        RPCBinding(kind: .headers(match))
    }

    /// The arguments of the AMQP bindings.
    func matches(service: String, procedures: [String]) throws(RPCConfigurationError) -> [FieldTable] {
        switch kind {
        case .service: return [try Self.match(destination: service)]
        case .destination(let name): return [try Self.match(destination: name)]
        case .procedure(let name, let destination):
            return [try Self.match(destination: destination ?? service, procedure: name)]
        case .procedures:
            guard !procedures.isEmpty else { throw .invalidBinding("there is no procedure with a name to bind on") }
            var matches: [FieldTable] = []
            for name in procedures { matches.append(try Self.match(destination: service, procedure: name)) }
            return matches
        case .headers(let match):
            do throws(AMQPError) {
                return [try match.fieldTable()]
            } catch {
                throw .invalidBinding("\(error)")
            }
        }
    }

    private static func match(
        destination: String,
        procedure: String? = nil
    ) throws(RPCConfigurationError) -> FieldTable {
        guard !destination.isEmpty else { throw .invalidBinding("the destination is empty") }
        guard procedure != "" else { throw .invalidBinding("the procedure is empty") }
        try RPCConfigurationError.check(destination, of: "destination of a binding")
        if let procedure { try RPCConfigurationError.check(procedure, of: "procedure of a binding") }
        var table: FieldTable = ["x-match": "all", Header.destination: .string(destination)]
        if let procedure { table[Header.procedure] = .string(procedure) }
        return table
    }
}

extension RPCReceiverConfiguration {
    /// Throws if the names, bindings and procedures are inconsistent or invalid.
    func check(service: String, procedures: RPCHandlers) throws(RPCConfigurationError) {
        try RPCConfigurationError.check(service: service, names: names)
        if let duplicate = procedures.duplicate { throw .duplicateProcedure(duplicate) }
        if let contract { try procedures.check(against: contract) }
        for name in procedures.names { try RPCConfigurationError.check(name, of: "procedure") }
        guard deliveryLimit > 0 else { throw .invalidSetting("deliveryLimit", why: "must be at least 1") }
        guard handlerTimeLimit > .zero else {
            throw .invalidSetting("handlerTimeLimit", why: "must be longer than zero")
        }
        guard topologyCheckInterval >= .milliseconds(100) else {
            throw .invalidSetting("topologyCheckInterval", why: "must be at least 100 ms")
        }
        try pool.checkChannels()
        try RPCConfigurationError.check(
            try requestQueue(of: service, procedures: procedures).name,
            of: "request queue"
        )
    }

    /// The queue that requests are consumed from.
    func requestQueue(of service: String, procedures: RPCHandlers) throws(RPCConfigurationError) -> RequestQueue {
        var matches: [FieldTable] = []
        for binding in bindings { matches += try binding.matches(service: service, procedures: procedures.names) }
        return RequestQueue(
            name: queueName?() ?? queue ?? names.requestQueue(of: service),
            isDurable: queueIsDurable,
            arguments: queueArguments,
            bindings: matches
        )
    }
}
