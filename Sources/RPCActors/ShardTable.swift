/// The decisions of a node about the shards of one kind of virtual actors.
///
/// ```
/// waiting ──token of another──▶ claiming(n + 1) ──confirmed──▶ active(n + 1)
///    ▲                               │                            │
///    └────────── released ◀──── closing(what runs, what is held) ◀┘   another node should have it, or this node stops
/// ```
///
/// Each shard is a queue with a single active consumer that every node consumes. The node that gets deliveries is the active one. Requests
/// that arrive before its number is known, and those that arrive while the shard is handed over, are held: the former are handled later,
/// the latter returned. The end of the channel, or of a consumer, ends everything at once, because the broker may have given the shard to
/// another node.
struct ShardTable: Sendable {
    typealias Tag = UInt64
    typealias Instant = ContinuousClock.Instant

    struct Settings: Sendable {
        /// How often a held token is renewed: well within the broker's consumer timeout.
        var renewal: Duration = .seconds(20)
        /// How long requests wait for the token that should have come before them.
        var tokenTimeout: Duration = .seconds(1)
        /// How long a node that gave up a shard holds it if it gets it back: its new owner may not consume it yet.
        var yieldPause: Duration = .seconds(1)
    }

    enum Action: Sendable, Equatable {
        /// Publish this node's token, and report whether it was confirmed.
        case publish(ShardToken, shard: Int)
        case acknowledge(Tag)
        case run(Tag, shard: Int, number: Int64)
        /// No activation of this shard may answer any more.
        case endActivations(shard: Int)
        /// Close the channel: everything is returned and starts again.
        case abandon
        /// Cancel the consumer, return the deliveries that ``released(_:)`` then names, and consume again unless this node stops.
        case release(shard: Int, consumer: String)
    }

    private enum Phase: Sendable, Equatable {
        case absent
        case waiting
        case claiming(Int64)
        case active(Int64)
        case closing(Int64?)
        /// The consumer is being cancelled.
        case releasing
    }

    private struct Shard: Sendable {
        var phase = Phase.absent
        var consumer: String?
        /// Requests that are neither being handled nor returned.
        var held: [Tag] = []
        var heldSince: Instant?
        var running: Set<Tag> = []
        /// Unacknowledged tokens of other nodes, or older ones of this node.
        var tokens: [Tag] = []
        /// The token by which this node holds the shard, once it has been delivered.
        var own: Tag?
        var known: Int64 = 0
        var publishedAt: Instant?
        var yieldedAt: Instant?

        var allTokens: [Tag] { tokens + (own.map { [$0] } ?? []) }
    }

    private let node: String
    private let settings: Settings
    private var shards: [Shard]
    /// The shards that this node should have; `nil`: all, as long as no other node is known.
    private var owned: Set<Int>?
    private(set) var isStopping = false

    init(node: String, count: Int, settings: Settings = Settings()) {
        self.node = node
        self.settings = settings
        shards = Array(repeating: Shard(), count: max(1, count))
    }

    // MARK: Inspection

    /// The number under which this node holds a shard, if it does.
    func number(of shard: Int) -> Int64? {
        guard shards.indices.contains(shard), case .active(let number) = shards[shard].phase else { return nil }
        return number
    }

    /// Whether this node may still work under this number, including while it finishes running requests before it hands the shard over.
    func holds(_ shard: Int, number: Int64) -> Bool {
        guard shards.indices.contains(shard) else { return false }
        return switch shards[shard].phase {
        case .active(number), .closing(number): true
        case .absent, .waiting, .claiming, .active, .closing, .releasing: false
        }
    }

    /// The number of shards that this node works on.
    var activeCount: Int {
        shards.count { if case .active = $0.phase { true } else { false } }
    }

    /// Whether every shard that was consumed here has been returned.
    var isReleased: Bool {
        shards.allSatisfy {
            $0.phase == .absent || $0.phase == .waiting && $0.held.isEmpty && $0.tokens.isEmpty && $0.own == nil
        }
    }

    // MARK: Consumers

    /// The shard's queue is about to be consumed: deliveries count from now on.
    mutating func consumes(_ shard: Int) {
        guard shards.indices.contains(shard) else { return }
        let (known, yieldedAt) = (shards[shard].known, shards[shard].yieldedAt)
        shards[shard] = Shard()
        shards[shard].phase = .waiting
        shards[shard].known = known
        shards[shard].yieldedAt = yieldedAt
    }

    /// The broker has confirmed the consumer's tag.
    mutating func consumed(_ shard: Int, consumer: String, at now: Instant) -> [Action] {
        guard shards.indices.contains(shard), shards[shard].phase != .absent else { return [] }
        shards[shard].consumer = consumer
        return settle(shard, at: now)
    }

    /// The shard's consumer has ended, and another node may have the shard by now.
    mutating func lost(_ shard: Int) -> [Action] {
        guard shards.indices.contains(shard), shards[shard].phase != .absent else { return [] }
        let known = shards[shard].known
        shards[shard] = Shard()
        shards[shard].known = known
        return [.endActivations(shard: shard)]
    }

    /// The channel has ended.
    mutating func lostAll() -> [Action] {
        isStopping = false
        return shards.indices.flatMap { lost($0) }
    }

    /// The consumer is cancelled: these deliveries are returned, the last one first.
    mutating func released(_ shard: Int, at now: Instant) -> [Tag] {
        guard shards.indices.contains(shard), shards[shard].phase == .releasing else { return [] }
        let tags = (shards[shard].held + shards[shard].allTokens).sorted(by: >)
        let known = shards[shard].known
        shards[shard] = Shard()
        shards[shard].known = known
        shards[shard].yieldedAt = now
        return tags
    }

    // MARK: Deliveries

    mutating func request(_ tag: Tag, shard: Int, at now: Instant) -> [Action] {
        guard shards.indices.contains(shard) else { return [] }
        if case .active(let number) = shards[shard].phase {
            shards[shard].running.insert(tag)
            return [.run(tag, shard: shard, number: number)]
        }
        guard shards[shard].phase != .absent else { return [] }
        shards[shard].held.append(tag)
        if shards[shard].heldSince == nil { shards[shard].heldSince = now }
        return settle(shard, at: now)
    }

    mutating func token(_ token: ShardToken, _ tag: Tag, shard: Int, clock: Int64, at now: Instant) -> [Action] {
        guard shards.indices.contains(shard), shards[shard].phase != .absent else { return [] }
        guard token.isPlausible(at: clock) else { return [.acknowledge(tag)] }
        let current: Int64? =
            switch shards[shard].phase {
            case .claiming(let number), .active(let number): number
            case .closing(let number): number
            case .absent, .waiting, .releasing: nil
            }
        if let current, token.number < current || token.node == node && token.number > current {
            // An older token, or a forged one in this node's name.
            return [.acknowledge(tag)]
        }
        shards[shard].known = max(shards[shard].known, token.number)
        switch shards[shard].phase {
        case .closing, .releasing:
            shards[shard].tokens.append(tag)
            return []
        case .active, .claiming:
            if token.node == node {
                // Our token has been delivered: it is held, and earlier tokens may be acknowledged.
                let old = shards[shard].allTokens
                shards[shard].tokens = []
                shards[shard].own = tag
                return old.map { .acknowledge($0) }
            }
            // Another node held the shard under a number that is not smaller than ours: the activations here are not the latest, and their
            // running requests have to be started again on later ones.
            guard shards[shard].running.isEmpty else { return [.abandon] }
            shards[shard].tokens = shards[shard].allTokens + [tag]
            shards[shard].own = nil
            return claim(shard, clock: clock, at: now)
        case .waiting, .absent:
            shards[shard].tokens.append(tag)
            let actions = settle(shard, at: now)
            guard actions.isEmpty, shards[shard].phase == .waiting else { return actions }
            return claim(shard, clock: clock, at: now)
        }
    }

    private mutating func claim(_ shard: Int, clock: Int64, at now: Instant) -> [Action] {
        let known = shards[shard].known
        let number = known == 0 ? min(max(1, clock), ShardToken.maximumNumber - 1) : known + 1
        shards[shard].known = number
        shards[shard].phase = .claiming(number)
        shards[shard].publishedAt = now
        return [.publish(ShardToken(number: number, node: node), shard: shard)]
    }

    /// This node's token is confirmed in the queue.
    mutating func confirmed(_ token: ShardToken, shard: Int) -> [Action] {
        guard shards.indices.contains(shard), shards[shard].phase == .claiming(token.number) else { return [] }
        shards[shard].phase = .active(token.number)
        // All except the one that has already been delivered.
        let held = shards[shard].held
        let old = shards[shard].tokens
        shards[shard].tokens = []
        shards[shard].held = []
        shards[shard].heldSince = nil
        shards[shard].running.formUnion(held)
        return old.map { .acknowledge($0) } + held.map { .run($0, shard: shard, number: token.number) }
    }

    /// A request has ended: it was answered, dropped or given up, and its handler has ended.
    mutating func ended(_ tag: Tag, shard: Int, at now: Instant) -> [Action] {
        guard shards.indices.contains(shard), shards[shard].running.remove(tag) != nil else { return [] }
        return settle(shard, at: now)
    }

    // MARK: Placement and time

    /// Sets the shards that this node should have from now on.
    mutating func place(owned: Set<Int>, at now: Instant) -> [Action] {
        self.owned = owned
        return shards.indices.flatMap { settle($0, at: now) }
    }

    /// This node stops: everything is returned.
    mutating func stop(at now: Instant) -> [Action] {
        isStopping = true
        return shards.indices.flatMap { settle($0, at: now) }
    }

    /// Performs what is due: renews tokens, claims a shard whose token is lost, returns deliveries held during a pause.
    mutating func tick(clock: Int64, at now: Instant) -> [Action] {
        shards.indices.flatMap { shard -> [Action] in
            var actions = settle(shard, at: now)
            switch shards[shard].phase {
            case .active(let number), .claiming(let number):
                if let published = shards[shard].publishedAt, now - published >= settings.renewal {
                    shards[shard].publishedAt = now
                    actions.append(.publish(ShardToken(number: number, node: node), shard: shard))
                }
            case .waiting:
                if let since = shards[shard].heldSince, now - since >= settings.tokenTimeout {
                    // If no number is known, the clock is greater than any earlier one.
                    shards[shard].known = max(shards[shard].known, min(clock, ShardToken.maximumNumber - 1))
                    actions += claim(shard, clock: clock, at: now)
                }
            case .absent, .closing, .releasing: break
            }
            return actions
        }
    }

    /// Begins or continues to hand a shard over, if another node should have it.
    private mutating func settle(_ shard: Int, at now: Instant) -> [Action] {
        switch shards[shard].phase {
        case .absent, .releasing: return []
        case .waiting:
            // Without deliveries it is only a waiting consumer, which is the desired state; when this node stops, it is cancelled.
            let isActive = !shards[shard].held.isEmpty || !shards[shard].tokens.isEmpty
            guard isStopping || isActive && mayYield(shard, at: now) else { return [] }
            shards[shard].phase = .closing(nil)
        case .claiming(let number), .active(let number):
            guard isStopping || mayYield(shard, at: now) else { return [] }
            shards[shard].phase = .closing(number)
        case .closing: break
        }
        guard shards[shard].running.isEmpty, let consumer = shards[shard].consumer else { return [] }
        shards[shard].phase = .releasing
        return [.endActivations(shard: shard), .release(shard: shard, consumer: consumer)]
    }

    private func mayYield(_ shard: Int, at now: Instant) -> Bool {
        guard let owned, !owned.contains(shard) else { return false }
        return shards[shard].yieldedAt.map { now - $0 >= settings.yieldPause } ?? true
    }
}
