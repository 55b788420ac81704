/// How a receiver recognises requests that it has already answered, and answers them again without running their handler.
///
/// A request is repeated when its caller sends it again, or when the channel or connection of its acknowledgement was lost. Repetitions
/// have the same message id. With deduplication
///
/// - a request whose id has been answered gets the stored reply,
/// - a request whose id is being handled waits for that answer, and gets the same; if the first one ends without an answer (its channel is
///   lost, its caller has given up, it is requeued), the next one is handled.
///
/// Its limits: **instances do not share it.** A repetition that arrives at another instance of the service, or after a restart of this
/// one's process or of its `handlers`, is handled again. Work that must never be done twice has to record the message id together with its
/// effect, in the same transaction. Requests without a message id are not recognised, nor are repetitions after the stored reply was
/// dropped because of newer ones or of its age.
///
/// Only answers of handlers that ran are stored, including failures. Ids are compared within one procedure.
public struct RPCDeduplication: Sendable, Hashable {
    /// The maximum number of stored replies. The oldest are dropped first. Default 10,000.
    public var maximumEntries: Int
    /// The maximum size of the stored replies in bytes, including overhead. A larger reply is not stored. Default 16 MiB.
    public var maximumBytes: Int
    /// The maximum age of a stored reply. Default 5 minutes.
    public var maximumAge: Duration

    /// Creates limits of what is stored.
    public init(
        maximumEntries: Int = 10_000,
        maximumBytes: Int = 16 * 1024 * 1024,
        maximumAge: Duration = .seconds(300)
    ) {
        self.maximumEntries = maximumEntries
        self.maximumBytes = maximumBytes
        self.maximumAge = maximumAge
    }
}
