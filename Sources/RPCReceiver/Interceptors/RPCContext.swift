public import AMQPPool
public import Logging
import RPCWire

/// What a handler gets to know about its request.
public struct RPCContext: Sendable {
    /// The procedure that was called; empty for the default procedure.
    public let procedure: String
    /// The id shared by all deliveries and retries of this request, for handlers that must not do their work twice. `nil` if the caller set
    /// none.
    public let messageID: String?
    /// Whether the request may have been delivered, and handled, before.
    ///
    /// `false` is not certain for requests from a classic queue on RabbitMQ 3.10 to 4.2: see <doc:DeadlinesAndRepetitions>.
    public let redelivered: Bool
    /// When an answer is too late: the caller gives up then, or the receiver's own time limit is reached. The handler's task is cancelled
    /// at that instant.
    public let deadline: ContinuousClock.Instant
    /// The request's headers: those of the protocol, and the caller's.
    public let headers: FieldTable
    /// The receiver's logger, with the metadata `rpc.procedure` and `rpc.message_id`.
    public var logger: Logger {
        var logger = plainLogger
        logger[metadataKey: LogKey.procedure.rawValue] = "\(procedure.escaped)"
        if let messageID { logger[metadataKey: LogKey.messageID.rawValue] = "\(messageID.escaped)" }
        return logger
    }
    /// Without metadata, because most handlers log nothing.
    private let plainLogger: Logger

    /// Creates a context for a unit test of a procedure.
    public init(
        procedure: String = "",
        messageID: String? = nil,
        redelivered: Bool = false,
        deadline: ContinuousClock.Instant = .now + .seconds(60),
        headers: FieldTable = FieldTable(),
        logger: Logger = Logger(label: "rpc.receiver")
    ) {
        self.procedure = procedure
        self.messageID = messageID
        self.redelivered = redelivered
        self.deadline = deadline
        self.headers = headers
        plainLogger = logger
    }

    /// The time left until ``deadline``; negative when it has passed.
    public var remaining: Duration { ContinuousClock.now.duration(to: deadline) }
}
