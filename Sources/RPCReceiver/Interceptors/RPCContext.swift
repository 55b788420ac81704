public import AMQPPool
public import Logging
import RPCWire

/// What a procedure learns about the request it answers.
public struct RPCContext: Sendable {
    /// The procedure that was called; empty for the default procedure.
    public let procedure: String
    /// The id that every delivery and every retry of this request shares, for handlers that must not do their work twice.
    /// `nil` when the caller gave none.
    public let messageID: String?
    /// Whether the request may have been delivered, and worked on, before.
    public let redelivered: Bool
    /// When the answer comes too late: the caller has given up by then, or the receiver's own limit is reached. The handler's task is
    /// cancelled at that moment.
    public let deadline: ContinuousClock.Instant
    /// The request's headers: those of the protocol, and what its caller added.
    public let headers: FieldTable
    /// The receiver's logger, with the metadata `rpc.procedure` and `rpc.message_id`.
    public var logger: Logger {
        var logger = plainLogger
        logger[metadataKey: LogKey.procedure.rawValue] = "\(procedure.escaped)"
        if let messageID { logger[metadataKey: LogKey.messageID.rawValue] = "\(messageID.escaped)" }
        return logger
    }
    /// Most handlers log nothing.
    private let plainLogger: Logger

    /// A context as a unit test of a procedure needs it.
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

    /// How much time is left until ``deadline``; negative when it has passed.
    public var remaining: Duration { ContinuousClock.now.duration(to: deadline) }
}
