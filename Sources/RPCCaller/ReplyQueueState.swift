/// The reply queue's name, and when it has to change.
///
/// A reply queue lives in the broker as long as somebody consumes it (`auto_delete`), and the name lives as long as the queue:
/// what was asked under a name whose queue is gone gets no reply, and a queue of the same name that comes back later is another
/// queue. So the name is given up, and every waiting call with it, when
///
/// - no channel of ours consumes it any more,
/// - the broker cancelled a consumer of it (deleted, or its node failed over),
/// - the broker says 404 for it ("home node is down": redeclaring the name fails until that node is back), or
/// - a `declare-ok` reports no consumer though one of ours was consuming when the declare was sent: the broker had let go of that
///   consumer, and with it of the queue, before we learned of it.
///
/// Each channel attaches in two steps, declare and consume, and asks after each whether the name it works on is still the one:
///
/// ```
/// begin ──▶ declare ──▶ declared ──▶ consume ──▶ consuming
///   ▲                      │                        │
///   └──────── .again ◀─────┴────────────────────────┘   the name changed meanwhile
/// ```
struct ReplyQueueState<ChannelID: Hashable & Sendable>: Sendable {
    /// The name that replies go to. It is of use only while ``isConsumed``.
    private(set) var name: String
    /// Who consumes the queue of the current name.
    private(set) var consuming: Set<ChannelID> = []
    /// Who is on the way to consume it.
    private var attaching: Set<ChannelID> = []
    private let makeName: @Sendable () -> String

    init(makeName: @escaping @Sendable () -> String) {
        self.makeName = makeName
        name = makeName()
    }

    /// Whether a reply sent to ``name`` would reach us.
    var isConsumed: Bool { !consuming.isEmpty }

    /// What a channel knew when it sent its declare.
    struct Attempt: Sendable, Equatable {
        let name: String
        let othersConsumed: Bool
    }

    /// What a channel does next.
    enum Step: Sendable, Equatable {
        case proceed
        /// Begin again: the name changed, or the channel is not known (any more).
        case again
    }

    /// What has to be done outside.
    enum Action: Sendable, Equatable {
        /// No reply to this name will come any more: every call that waits for one fails.
        case lost(name: String)
        /// This channel consumes a queue that is given up: it cancels that consumer and attaches to the new name.
        case move(ChannelID)
        /// Replies reach us from now on: what waited for that can be sent.
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

    /// The broker cancelled a channel's consumer of this queue: perhaps before that channel has read the answer to its consume.
    mutating func cancelled(_ channel: ChannelID, name: String) -> [Action] {
        guard name == self.name, consuming.contains(channel) || attaching.contains(channel) else { return [] }
        return lose()
    }

    /// The broker does not have this queue (404), or cannot get at it.
    mutating func missing(name: String) -> [Action] {
        name == self.name ? lose() : []
    }

    /// A channel is gone.
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
