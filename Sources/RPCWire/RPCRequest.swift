public import AMQPPool
public import NIOCore
@_exported public import RPCContract

/// A request as interceptors see it, on both sides: the argument is encoded already, or not decoded yet.
public struct RPCRequest: Sendable, Hashable {
    /// Whether its caller waits for an answer.
    public enum Kind: Sendable, Hashable, CaseIterable {
        /// It does.
        case call
        /// It does not.
        case cast
    }

    /// Whether its caller waits for an answer.
    public let kind: Kind
    /// The id that stands in `message_id`: the same on both sides, in every delivery and every retry. `nil` when a foreign caller
    /// gave none.
    public let messageID: String?
    /// The service. The broker has routed by it when a receiver sees it, so there it may be empty.
    public var destination: String
    /// The procedure; `nil` for the service's default one.
    public var procedure: String?
    /// What the body is written in.
    public var contentType: String?
    /// The message's headers. Those of the protocol (`destination`, `procedure`, `timeout-ms`) can be read where they came over the
    /// wire, and are ignored where they are set.
    public var headers: FieldTable
    /// The argument, encoded.
    public var body: ByteBuffer
    /// When its caller gives up. A caller's interceptor may set it earlier; anything else has no effect.
    public var deadline: ContinuousClock.Instant

    /// A request, as a test of an interceptor needs it.
    public init(
        kind: Kind = .call,
        messageID: String? = nil,
        destination: String,
        procedure: String?,
        contentType: String? = "application/json",
        headers: FieldTable = FieldTable(),
        body: ByteBuffer = ByteBuffer(),
        deadline: ContinuousClock.Instant = .now + .seconds(60)
    ) {
        self.kind = kind
        self.messageID = messageID
        self.destination = destination
        self.procedure = procedure
        self.contentType = contentType
        self.headers = headers
        self.body = body
        self.deadline = deadline
    }
}

/// A result as interceptors see it, on both sides: encoded already, or not decoded yet. Failures are thrown.
public struct RPCReply: Sendable, Hashable {
    /// What the body is written in.
    public var contentType: String?
    /// The message's headers. `error` is ignored: to answer with a failure, throw one.
    public var headers: FieldTable
    /// The result, encoded. Empty when the request was a cast.
    public var body: ByteBuffer

    /// A result.
    public init(
        contentType: String? = "application/json",
        headers: FieldTable = FieldTable(),
        body: ByteBuffer = ByteBuffer()
    ) {
        self.contentType = contentType
        self.headers = headers
        self.body = body
    }
}
