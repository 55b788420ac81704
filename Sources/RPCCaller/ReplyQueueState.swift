/// The name of the reply queue, and when it has to change.
///
/// A reply queue exists on the broker as long as it is consumed (`auto_delete`), and the name is valid as long as the queue exists:
/// requests sent under a name whose queue is gone get no reply, and a later queue of the same name is another queue. The name is therefore
/// abandoned, and every waiting call with it, when
///
/// - no channel of ours consumes it any more,
/// - the broker cancelled a consumer of it (deleted, or its node failed over),
/// - the broker answers 404 for it ("home node is down": redeclaring the name fails until that node is back), or
/// - a `declare-ok` reports no consumer although one of ours was consuming when the declare was sent: the broker had dropped that consumer,
///   and with it the queue, before we learned of it.
///
/// Each channel attaches in two steps, declare and consume, and checks after each whether the name is still current:
///
/// ```
/// begin ──▶ declare ──▶ declared ──▶ consume ──▶ consuming
///   ▲                      │                        │
///   └──────── .again ◀─────┴────────────────────────┘   the name has changed
/// ```
struct ReplyQueueState<ChannelID: Hashable & Sendable>: Sendable {
    /// The name for replies. Only usable while ``isConsumed``.
    private(set) var name: String
    /// The channels that consume the queue of the current name.
    private(set) var consuming: Set<ChannelID> = []
    /// The channels that are attaching to it.
    private var attaching: Set<ChannelID> = []
    private let makeName: @Sendable () -> String

    init(makeName: @escaping @Sendable () -> String) {
        self.makeName = makeName
        name = makeName()
    }

    /// Whether a reply sent to ``name`` would arrive.
    var isConsumed: Bool { !consuming.isEmpty }

    /// What a channel knew when it sent its declare.
    struct Attempt: Sendable, Equatable {
        let name: String
        let othersConsumed: Bool
    }

    /// The next step of a channel.
    enum Step: Sendable, Equatable {
        case proceed
        /// Begin again: the name has changed, or the channel is unknown.
        case again
    }

    /// An action for the owner.
    enum Action: Sendable, Equatable {
        /// No reply to this name will arrive any more: every call that waits for one fails.
        case lost(name: String)
        /// This channel consumes an abandoned queue: it has to cancel that consumer and attach to the new name.
        case move(ChannelID)
        /// Replies arrive from now on: calls that waited for that can be sent.
        case usable
    }

    /// A channel is about to declare the queue.
    mutating func begin(_ channel: ChannelID) -> Attempt {
        attaching.insert(channel)
        return Attempt(name: name, othersConsumed: !consuming.isEmpty)
    }

    /// The broker answered a channel's declare.
    mutating func declared(_ channel: ChannelID, _ attempt: Attempt, consumers: Int) -> (Step, [Action]) {
        guard attempt.name == name, attaching.contains(channel) else { return (.again, []) }
        guard attempt.othersConsumed, consumers == 0 else { return (.proceed, []) }
        return (.again, lose())
    }

    /// The broker answered a channel's consume.
    mutating func consumes(_ channel: ChannelID, _ attempt: Attempt) -> (Step, [Action]) {
        guard attempt.name == name, attaching.remove(channel) != nil else { return (.again, []) }
        consuming.insert(channel)
        return (.proceed, consuming.count == 1 ? [.usable] : [])
    }

    /// The broker cancelled a channel's consumer of this queue, perhaps before that channel has read the answer to its consume.
    mutating func cancelled(_ channel: ChannelID, name: String) -> [Action] {
        guard name == self.name, consuming.contains(channel) || attaching.contains(channel) else { return [] }
        return lose()
    }

    /// The broker does not have this queue (404), or cannot access it.
    mutating func missing(name: String) -> [Action] {
        name == self.name ? lose() : []
    }

    /// A channel has ended.
    mutating func closed(_ channel: ChannelID) -> [Action] {
        attaching.remove(channel)
        guard consuming.remove(channel) != nil, consuming.isEmpty else { return [] }
        return lose()
    }

    private mutating func lose() -> [Action] {
        let lost = name
        let moving = consuming
        name = makeName()
        consuming = []
        attaching.formUnion(moving)
        return [.lost(name: lost)] + moving.map { .move($0) }
    }
}
