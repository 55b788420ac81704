/// The names shared by callers and receivers of one deployment, and whether missing entities may be declared.
///
/// The defaults are those of `docs/wire-protocol.md`. Set `declares` to `false` where exchange and queues are created by somebody else, in
/// a virtual host where services have no permission to configure.
public struct RPCNames: Sendable, Hashable {
    /// The headers exchange of requests.
    public var exchange: String
    /// The suffix of a receiver's queue: `<service><requestQueueSuffix>`.
    public var requestQueueSuffix: String
    /// The infix of a caller's reply queue: `<service><replyQueueInfix><uuid>`.
    public var replyQueueInfix: String
    /// Whether the exchange, the receiver's queue and its binding are declared when they are missing. The caller always declares its own
    /// reply queue.
    public var declares: Bool

    /// Creates names that differ from the defaults where given.
    public init(
        exchange: String = "rpc",
        requestQueueSuffix: String = ".rpcs",
        replyQueueInfix: String = ".replies.",
        declares: Bool = true
    ) {
        self.exchange = exchange
        self.requestQueueSuffix = requestQueueSuffix
        self.replyQueueInfix = replyQueueInfix
        self.declares = declares
    }

    /// The queue of a service's requests.
    package func requestQueue(of service: String) -> String {
        service + requestQueueSuffix
    }

    /// A reply queue of a caller; the id makes it unique.
    package func replyQueue(of service: String, id: RequestID) -> String {
        service + replyQueueInfix + id.description
    }
}

/// The headers of a call (`docs/wire-protocol.md`).
package enum Header {
    /// The service of a request, which the bindings of receivers' queues match.
    package static let destination = "destination"
    /// The procedure of a request.
    package static let procedure = "procedure"
    /// How long the caller still waits, in milliseconds from the request's arrival.
    static let timeout = "timeout-ms"
    /// The code of a failure; a reply without it is a result.
    static let error = "error"
    /// The reply queue, repeated as a header, by which the broker returns a request that nobody took (see ``RPCNames``). It is filled in if
    /// a request has the header, with any value.
    package static let caller = "caller"
    /// The broker's header in a message that it has moved between queues.
    static let death = "x-death"
    /// The headers that define a request. Only the library sets them.
    static let ofRequests = [destination, procedure, timeout]
    /// How often a quorum queue has delivered the message before. Written by the broker.
    package static let deliveryCount = "x-delivery-count"
}
