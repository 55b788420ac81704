/// What a node does with the shards of one kind of virtual actors.
///
/// ```
/// waiting ──token of another──▶ claiming(n + 1) ──confirmed──▶ active(n + 1)
///    ▲                               │                            │
///    └────────── released ◀──── closing(what runs, what is held) ◀┘   somebody else should have it, or this node stops
/// ```
///
/// Each shard is a queue with a single active consumer that every node consumes. Whoever gets anything from it is the active one. What
/// comes before the number is known, and what comes while the shard is handed over, is held: the first is worked on later, the second
/// given back. The end of the channel, or of a consumer, ends all at once: the broker may have given the shard to another node.
struct ShardTable: Sendable {
    typealias Tag = UInt64
    typealias Instant = ContinuousClock.Instant

    struct Settings: Sendable {
        /// How often a held token is renewed: well within the broker's consumer timeout.
        var renewal: Duration = .seconds(20)
        /// How long requests wait for the token that should have come before them.
        var tokenTimeout: Duration = .seconds(1)
        /// How long a node that gave a shard back holds it when it comes back: whom it belongs to may not consume it yet.
        var yieldPause: Duration = .seconds(1)
    }

    enum Action: Sendable, Equatable {
        /// Publishes this node's token, and reports whether that was confirmed.
        case publish(ShardToken, shard: Int)
        case acknowledge(Tag)
        case run(Tag, shard: Int, number: Int64)
        /// No activation of this shard may answer any more.
        case endActivations(shard: Int)
        /// Closes the channel: everything goes back, and is begun again.
        case abandon
        /// Cancels the consumer, gives back what ``released(_:)`` then names, and consumes again unless this node stops.
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
        /// Requests that are neither worked on nor given back.
        var held: [Tag] = []
        var heldSince: Instant?
        var running: Set<Tag> = []
        /// Tokens of others, or older ones of ours, that are not acknowledged yet.
        var tokens: [Tag] = []
        /// The token that this node holds the shard by, once it has come round.
        var own: Tag?
        var known: Int64 = 0
        var publishedAt: Instant?
        var yieldedAt: Instant?

        var allTokens: [Tag] { tokens + (own.map { [$0] } ?? []) }
    }

    private let node: String
    private let settings: Settings
    private var shards: [Shard]
    /// Those that this node should have; `nil`: all, as long as nothing is known of others.
    private var owned: Set<Int>?
    private(set) var isStopping = false

    init(node: String, count: Int, settings: Settings = Settings()) {
        self.node = node
        self.settings = settings
        shards = Array(repeating: Shard(), count: max(1, count))
    }

    // MARK: Looking at it

    /// The number under which this node holds a shard, if it does.
    func number(of shard: Int) -> Int64? {
        guard shards.indices.contains(shard), case .active(let number) = shards[shard].phase else { return nil }
        return number
    }

    /// Whether this node may still work under this number: also while it finishes what runs, before it hands the shard over.
    func holds(_ shard: Int, number: Int64) -> Bool {
        guard shards.indices.contains(shard) else { return false }
        return switch shards[shard].phase {
        case .active(number), .closing(number): true
        case .absent, .waiting, .claiming, .active, .closing, .releasing: false
        }
    }

    /// How many shards this node works on.
    var activeCount: Int {
        shards.count { if case .active = $0.phase { true } else { false } }
    }

    /// Whether every shard that was consumed here is given back.
    var isReleased: Bool {
        shards.allSatisfy {
            $0.phase == .absent || $0.phase == .waiting && $0.held.isEmpty && $0.tokens.isEmpty && $0.own == nil
        }
    }

    // MARK: Consumers

    /// The shard's queue is about to be consumed: what is delivered from now on counts.
    mutating func consumes(_ shard: Int) {
        guard shards.indices.contains(shard) else { return }
        let (known, yieldedAt) = (shards[shard].known, shards[shard].yieldedAt)
        shards[shard] = Shard()
        shards[shard].phase = .waiting
        shards[shard].known = known
        shards[shard].yieldedAt = yieldedAt
    }

    /// The broker said the consumer's tag.
    mutating func consumed(_ shard: Int, consumer: String, at now: Instant) -> [Action] {
        guard shards.indices.contains(shard), shards[shard].phase != .absent else { return [] }
        shards[shard].consumer = consumer
        return settle(shard, at: now)
    }

    /// The shard's consumer is gone, and perhaps another node has it by now.
    mutating func lost(_ shard: Int) -> [Action] {
        guard shards.indices.contains(shard), shards[shard].phase != .absent else { return [] }
        let known = shards[shard].known
        shards[shard] = Shard()
        shards[shard].known = known
        return [.endActivations(shard: shard)]
    }

    /// The channel is gone.
    mutating func lostAll() -> [Action] {
        isStopping = false
        return shards.indices.flatMap { lost($0) }
    }

    /// The consumer is cancelled: these go back, the last one first.
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
            // An older one, or one in our name that is not ours.
            return [.acknowledge(tag)]
        }
        shards[shard].known = max(shards[shard].known, token.number)
        switch shards[shard].phase {
        case .closing, .releasing:
            shards[shard].tokens.append(tag)
            return []
        case .active, .claiming:
            if token.node == node {
                // Ours has come round: it is held, and what was held before may go.
                let old = shards[shard].allTokens
                shards[shard].tokens = []
                shards[shard].own = tag
                return old.map { .acknowledge($0) }
            }
            // Somebody held the shard under a number that is not less than ours: the activations here are not the latest, and what runs
            // on them has to be begun again on later ones.
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

    /// This node's token is in the queue for good.
    mutating func confirmed(_ token: ShardToken, shard: Int) -> [Action] {
        guard shards.indices.contains(shard), shards[shard].phase == .claiming(token.number) else { return [] }
        shards[shard].phase = .active(token.number)
        // All but the one that has come round already.
        let held = shards[shard].held
        let old = shards[shard].tokens
        shards[shard].tokens = []
        shards[shard].held = []
        shards[shard].heldSince = nil
        shards[shard].running.formUnion(held)
        return old.map { .acknowledge($0) } + held.map { .run($0, shard: shard, number: token.number) }
    }

    /// A request is over: answered, dropped or given up, and its handler has ended.
    mutating func ended(_ tag: Tag, shard: Int, at now: Instant) -> [Action] {
        guard shards.indices.contains(shard), shards[shard].running.remove(tag) != nil else { return [] }
        return settle(shard, at: now)
    }

    // MARK: Placement and time

    /// The shards that this node should have from now on.
    mutating func place(owned: Set<Int>, at now: Instant) -> [Action] {
        self.owned = owned
        return shards.indices.flatMap { settle($0, at: now) }
    }

    /// This node stops: everything is given back.
    mutating func stop(at now: Instant) -> [Action] {
        isStopping = true
        return shards.indices.flatMap { settle($0, at: now) }
    }

    /// What is due: renewing tokens, claiming a shard whose token is lost, giving back what a pause held.
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
                    // Where no number is known, the clock is greater than any that was.
                    shards[shard].known = max(shards[shard].known, min(clock, ShardToken.maximumNumber - 1))
                    actions += claim(shard, clock: clock, at: now)
                }
            case .absent, .closing, .releasing: break
            }
            return actions
        }
    }

    /// Begins to hand a shard over, and goes on with that, if somebody else should have it.
    private mutating func settle(_ shard: Int, at now: Instant) -> [Action] {
        switch shards[shard].phase {
        case .absent, .releasing: return []
        case .waiting:
            // Without anything delivered it only stands in line, which is as it should be; when this node stops it leaves the line.
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
