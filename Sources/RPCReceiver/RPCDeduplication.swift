/// How a receiver recognises requests that it has answered before, and answers them again without running their handler.
///
/// A request comes twice when its caller sent it again, or when the channel or the connection that should have acknowledged it was
/// lost. Both have the message id of the first. With a deduplication
///
/// - a request whose id was answered gets the stored reply,
/// - one whose id is being worked on waits for that answer, and gets the same; if the first leaves without one (its channel is
///   lost, its caller has given up, it is requeued), the next is worked on.
///
/// What it does not do: **instances do not share it.** A repetition that goes to another instance of the service, or to this one
/// after its process or its `handlers` were restarted, is worked on. Work that must never be done twice records the message id
/// together with its effect, in the same transaction. Requests without a message id are not recognised, and neither are repetitions
/// that come after what is stored was dropped for a newer one, or for its age.
///
/// Only answers of handlers that ran are stored, failures included. Ids are compared within one procedure.
public struct RPCDeduplication: Sendable, Hashable {
    /// How many replies are stored at most. The oldest leave first. Default 10,000.
    public var maximumEntries: Int
    /// How many bytes they have at most, with what it takes to store them. A larger reply is not stored. Default 16 MiB.
    public var maximumBytes: Int
    /// How long they are stored at most. Default 5 minutes.
    public var maximumAge: Duration

    /// Bounds of what is stored.
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
