public import AMQPPool
public import NIOCore
@_exported public import RPCContract

/// A request for interceptors, on both sides: the argument is already encoded, or not yet decoded.
public struct RPCRequest: Sendable, Hashable {
    /// Whether the caller waits for an answer.
    public enum Kind: Sendable, Hashable, CaseIterable {
        /// The caller waits for an answer.
        case call
        /// The caller does not wait for an answer.
        case cast

        /// Whether it is answered.
        package var awaitsReply: Bool {
            switch self {
            case .call: true
            case .cast: false
            }
        }
    }

    /// Whether the caller waits for an answer.
    public let kind: Kind
    /// The `message_id`: the same on both sides, in every delivery and every retry. `nil` if another client set none.
    public let messageID: String?
    /// The service. It may be empty at a receiver, because the broker has already routed by it.
    public var destination: String
    /// The procedure; `nil` for the service's default one.
    public var procedure: String?
    /// The content type of the body.
    public var contentType: String?
    /// The message's headers. Those of the protocol (`destination`, `procedure`, `timeout-ms`) can be read at the receiver, and are ignored
    /// where they are set.
    public var headers: FieldTable
    /// The encoded argument.
    public var body: ByteBuffer
    /// When the caller gives up. A caller's interceptor may set an earlier deadline; any other change has no effect.
    public var deadline: ContinuousClock.Instant

    /// Creates a request for a test of an interceptor.
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

/// A result for interceptors, on both sides: already encoded, or not yet decoded. Failures are thrown.
public struct RPCReply: Sendable, Hashable {
    /// The content type of the body.
    public var contentType: String?
    /// The message's headers. `error` is ignored: to answer with a failure, throw one.
    public var headers: FieldTable
    /// The encoded result. Empty for a cast.
    public var body: ByteBuffer

    /// Creates a result.
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
