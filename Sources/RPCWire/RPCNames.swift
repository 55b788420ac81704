/// The names that callers and receivers of one deployment share, and whether they may create what is missing.
///
/// The defaults are those of `docs/wire-protocol.md`. A deployment whose exchange and queues are made by somebody else, in a
/// virtual host where services hold no configure right, sets `declares` to `false`.
public struct RPCNames: Sendable, Hashable {
    /// The headers exchange that requests go through.
    public var exchange: String
    /// The end of a receiver's queue: `<service><requestQueueSuffix>`.
    public var requestQueueSuffix: String
    /// The middle of a caller's reply queue: `<service><replyQueueInfix><uuid>`.
    public var replyQueueInfix: String
    /// Whether the exchange, the receiver's queue and its binding are created when they are missing. The reply queue is always
    /// the caller's own.
    public var declares: Bool

    /// Names that differ from the defaults where given.
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

    /// The queue that a service's requests wait in.
    package func requestQueue(of service: String) -> String {
        service + requestQueueSuffix
    }

    /// A reply queue of a caller; the id makes it new.
    package func replyQueue(of service: String, id: RequestID) -> String {
        service + replyQueueInfix + id.description
    }
}

/// The headers that carry a call (`docs/wire-protocol.md`).
package enum Header {
    /// The service a request is for; what a receiver's queue is bound on.
    package static let destination = "destination"
    /// The procedure a request calls.
    package static let procedure = "procedure"
    /// Milliseconds the caller still waits, counted from the request's arrival.
    package static let timeout = "timeout-ms"
    /// The code of a failure; a reply without it is a result.
    package static let error = "error"
    /// The queue that the reply goes to, once more: by it the broker sends a request back that nobody took (see ``RPCNames``). It is
    /// written where a request has the header, whatever it says.
    package static let caller = "caller"
    /// What the broker writes into a message that it moves from one queue to another.
    package static let death = "x-death"
    /// Those that say what a request is. Nobody else sets them.
    package static let ofRequests = [destination, procedure, timeout]
    /// How often a quorum queue delivered the message before. The broker writes it.
    package static let deliveryCount = "x-delivery-count"
}
