import Testing

@testable import RPCActors

/// The decisions about one shard, 0, of two. The clock says 1,000.
@Suite("Holding a shard")
struct ShardTableTests {
    private typealias Action = ShardTable.Action
    private let start = ContinuousClock.now

    private func table(_ node: String = "bank@me") -> ShardTable {
        var table = ShardTable(node: node, count: 2)
        table.consumes(0)
        _ = table.consumed(0, consumer: "c0", at: start)
        return table
    }

    private func token(_ number: Int64, _ node: String = "bank@other") -> ShardToken {
        ShardToken(number: number, node: node)
    }

    /// A table that holds shard 0 under the number 8, with the token in hand as delivery 2.
    private func active() -> ShardTable {
        var table = table()
        _ = table.token(token(7), 1, shard: 0, clock: 1000, at: start)
        _ = table.confirmed(token(8, "bank@me"), shard: 0)
        _ = table.token(token(8, "bank@me"), 2, shard: 0, clock: 1000, at: start)
        return table
    }

    @Test("begins when the token of another comes: with a greater number, once that is confirmed")
    func takeover() {
        var table = table()
        #expect(table.request(5, shard: 0, at: start) == [])
        #expect(table.token(token(7), 1, shard: 0, clock: 1000, at: start) == [.publish(token(8, "bank@me"), shard: 0)])
        #expect(table.number(of: 0) == nil)
        #expect(table.request(6, shard: 0, at: start) == [])
        #expect(
            table.confirmed(token(8, "bank@me"), shard: 0) == [
                .acknowledge(1), .run(5, shard: 0, number: 8), .run(6, shard: 0, number: 8),
            ]
        )
        #expect(table.number(of: 0) == 8)
        // Ours comes round, and is held.
        #expect(table.token(token(8, "bank@me"), 2, shard: 0, clock: 1000, at: start) == [])
        #expect(table.request(9, shard: 0, at: start) == [.run(9, shard: 0, number: 8)])
    }

    @Test("holds its own token when that comes round before it is confirmed")
    func early() {
        var table = table()
        _ = table.token(token(7), 1, shard: 0, clock: 1000, at: start)
        #expect(table.token(token(8, "bank@me"), 2, shard: 0, clock: 1000, at: start) == [.acknowledge(1)])
        #expect(table.confirmed(token(8, "bank@me"), shard: 0) == [])
        #expect(table.number(of: 0) == 8)
        #expect(table.place(owned: [], at: start).last == .release(shard: 0, consumer: "c0"))
        #expect(table.released(0, at: start) == [2])
    }

    @Test("begins at the clock in a shard that nobody has held")
    func new() {
        var table = table()
        #expect(
            table.token(token(0, ""), 1, shard: 0, clock: 1000, at: start) == [
                .publish(token(1000, "bank@me"), shard: 0)
            ]
        )
    }

    @Test(
        "inherits the number whatever its own clock says, and whatever that of the node before said",
        arguments: [
            // What the clock says here, and the number under which another held the shard, both in milliseconds since 1970.
            (0, 1_800_000_000_000), (-1, 1_800_000_000_000), (.min, 1_800_000_000_000),
            (1_640_000_000_000, 1_800_000_000_000), (1_800_000_000_000, 1_960_000_000_000),
            (1_800_000_000_000, 7_000_000_000_000), (1_800_000_000_000, ShardToken.maximumLead),
        ] as [(clock: Int64, number: Int64)]
    )
    func wrongClock(clock: Int64, number: Int64) {
        var table = table()
        _ = table.request(5, shard: 0, at: start)
        let mine = token(number + 1, "bank@me")
        #expect(table.token(token(number), 1, shard: 0, clock: clock, at: start) == [.publish(mine, shard: 0)])
        #expect(table.confirmed(mine, shard: 0) == [.acknowledge(1), .run(5, shard: 0, number: number + 1)])
        // Its own comes round, and is held.
        #expect(table.token(mine, 2, shard: 0, clock: clock, at: start) == [])
        #expect(table.place(owned: [], at: start) == [])
        _ = table.ended(5, shard: 0, at: start)
        #expect(table.released(0, at: start) == [2])
    }

    @Test("drops a second first token, and one that was forged")
    func duplicates() {
        var table = active()
        #expect(table.token(token(0, ""), 3, shard: 0, clock: 1000, at: start) == [.acknowledge(3)])
        #expect(table.token(token(7), 4, shard: 0, clock: 1000, at: start) == [.acknowledge(4)])
        for number in [-1, .min, .max, ShardToken.maximumNumber + 1, ShardToken.maximumLead + 1001] as [Int64] {
            #expect(table.token(token(number), 5, shard: 0, clock: 1000, at: start) == [.acknowledge(5)])
        }
        #expect(table.token(token(99, "bank@me"), 6, shard: 0, clock: 1000, at: start) == [.acknowledge(6)])
        #expect(table.number(of: 0) == 8)
    }

    @Test("begins anew under a greater number when another held the shard under one that is not less")
    func bump() {
        var table = active()
        #expect(table.token(token(8), 3, shard: 0, clock: 1000, at: start) == [.publish(token(9, "bank@me"), shard: 0)])
        #expect(table.confirmed(token(9, "bank@me"), shard: 0).contains(.acknowledge(3)))
        #expect(table.number(of: 0) == 9)
    }

    @Test(
        "gives everything back when that comes while requests run: they would be answered by activations that are not the latest"
    )
    func bumpWhileRunning() {
        var table = active()
        _ = table.request(9, shard: 0, at: start)
        #expect(table.token(token(8), 3, shard: 0, clock: 1000, at: start) == [.abandon])
    }

    @Test("runs what came before the second token of two, too")
    func twoTokens() {
        var table = table()
        _ = table.token(token(5), 1, shard: 0, clock: 1000, at: start)
        _ = table.request(2, shard: 0, at: start)
        #expect(table.token(token(7), 3, shard: 0, clock: 1000, at: start) == [.publish(token(8, "bank@me"), shard: 0)])
        #expect(table.confirmed(token(6, "bank@me"), shard: 0) == [])
        #expect(
            table.confirmed(token(8, "bank@me"), shard: 0) == [
                .acknowledge(1), .acknowledge(3), .run(2, shard: 0, number: 8),
            ]
        )
    }

    @Test("does not wait for a token that is lost")
    func lostToken() {
        var table = table()
        _ = table.request(5, shard: 0, at: start)
        #expect(table.tick(clock: 1000, at: start + .milliseconds(500)) == [])
        #expect(table.tick(clock: 1000, at: start + .seconds(2)) == [.publish(token(1001, "bank@me"), shard: 0)])
    }

    @Test("renews the token: the next one is published, and the last acknowledged when it comes")
    func renewal() {
        var table = active()
        #expect(table.tick(clock: 1000, at: start + .seconds(10)) == [])
        #expect(table.tick(clock: 1000, at: start + .seconds(21)) == [.publish(token(8, "bank@me"), shard: 0)])
        #expect(table.confirmed(token(8, "bank@me"), shard: 0) == [])
        #expect(table.token(token(8, "bank@me"), 3, shard: 0, clock: 1000, at: start) == [.acknowledge(2)])
        #expect(table.number(of: 0) == 8)
    }

    @Test("is handed over when another should have it: what runs ends, what comes is held, all of that goes back")
    func handover() {
        var table = active()
        _ = table.request(5, shard: 0, at: start)
        #expect(table.place(owned: [1], at: start) == [])
        #expect(table.request(6, shard: 0, at: start) == [])
        #expect(table.holds(0, number: 8))
        #expect(table.ended(5, shard: 0, at: start) == [.endActivations(shard: 0), .release(shard: 0, consumer: "c0")])
        #expect(!table.holds(0, number: 8))
        #expect(table.request(7, shard: 0, at: start) == [])
        #expect(table.released(0, at: start) == [7, 6, 2])
        #expect(table.number(of: 0) == nil)
    }

    @Test("stands in line for a shard of another, and gives back what it gets, but not again and again")
    func yielding() {
        var table = table()
        #expect(table.place(owned: [1], at: start) == [])
        #expect(
            table.token(token(7), 1, shard: 0, clock: 1000, at: start) == [
                .endActivations(shard: 0), .release(shard: 0, consumer: "c0"),
            ]
        )
        #expect(table.released(0, at: start) == [1])
        table.consumes(0)
        _ = table.consumed(0, consumer: "c1", at: start)
        // It came back at once: whom it belongs to does not take it yet.
        #expect(table.token(token(7), 2, shard: 0, clock: 1000, at: start) == [.publish(token(8, "bank@me"), shard: 0)])
        _ = table.confirmed(token(8, "bank@me"), shard: 0)
        #expect(table.number(of: 0) == 8)
        #expect(
            table.tick(clock: 1000, at: start + .seconds(2)) == [
                .endActivations(shard: 0), .release(shard: 0, consumer: "c1"),
            ]
        )
    }

    @Test("ends with the channel, at once")
    func lost() {
        var table = active()
        _ = table.request(5, shard: 0, at: start)
        #expect(table.lostAll() == [.endActivations(shard: 0)])
        #expect(!table.holds(0, number: 8))
        #expect(table.ended(5, shard: 0, at: start) == [])
        #expect(table.request(6, shard: 0, at: start) == [])
        // The number is remembered, whatever the queue says.
        table.consumes(0)
        _ = table.consumed(0, consumer: "c1", at: start)
        #expect(
            table.token(token(0, ""), 1, shard: 0, clock: 3, at: start) == [.publish(token(9, "bank@me"), shard: 0)]
        )
    }

    @Test("ends in order when the node stops, also the place in line")
    func stop() {
        var table = active()
        table.consumes(1)
        _ = table.consumed(1, consumer: "d0", at: start)
        _ = table.request(5, shard: 0, at: start)
        #expect(table.stop(at: start) == [.endActivations(shard: 1), .release(shard: 1, consumer: "d0")])
        _ = table.released(1, at: start)
        #expect(!table.isReleased)
        #expect(table.ended(5, shard: 0, at: start) == [.endActivations(shard: 0), .release(shard: 0, consumer: "c0")])
        #expect(table.released(0, at: start) == [2])
        #expect(table.isReleased)
    }

    @Test("whatever comes in whatever order: two nodes never both hold it, and numbers only grow")
    func model() {
        for seed in 0..<400 { ShardModel(seed: UInt64(seed)).play() }
    }
}

/// A broker's queue with a single active consumer and two or three nodes at it, played at random.
private struct ShardModel {
    private struct Message: Equatable {
        var token: ShardToken?
        var id: Int
    }

    private struct Node {
        var name: String
        var table: ShardTable
        var isConsuming = false
        var unacknowledged: [UInt64: Message] = [:]
        var lastTag: UInt64 = 0
        /// Published, not confirmed.
        var publishing: [ShardToken] = []
        var running: [UInt64] = []
        var isReleasing = false
        /// Acknowledged, which the broker does not know yet.
        var acknowledging: [Message] = []
    }

    private var random: SplitMix
    private var nodes: [Node] = []
    private var line: [Int] = []
    private var queue: [Message] = []
    private var lastMessage = 0
    private var now = ContinuousClock.now
    private var greatest: Int64 = 0
    /// Who worked under it.
    private var holder = ""

    init(seed: UInt64) {
        random = SplitMix(state: seed)
        for number in 0..<(2 + Int(seed % 2)) {
            nodes.append(Node(name: "bank@\(number)", table: ShardTable(node: "bank@\(number)", count: 1)))
        }
        queue = [Message(token: ShardToken(number: 0, node: ""), id: 0)]
    }

    consuming func play() {
        for index in nodes.indices { consume(index) }
        for _ in 0..<300 { step() }
    }

    private mutating func consume(_ index: Int) {
        guard !nodes[index].isConsuming else { return }
        nodes[index].table.consumes(0)
        nodes[index].isConsuming = true
        line.append(index)
        perform(nodes[index].table.consumed(0, consumer: "c", at: now), index)
    }

    private mutating func step() {
        now += .milliseconds(Int64(random.next() % 400))
        let index = Int(random.next() % UInt64(nodes.count))
        switch random.next() % 12 {
        case 0, 1, 2, 3: deliver()
        case 4, 5:
            lastMessage += 1
            queue.append(Message(token: nil, id: lastMessage))
        case 6:
            guard !nodes[index].publishing.isEmpty else { return }
            // A queue with priorities hands out all tokens that it has before it takes another message.
            while line.first == index, queue.first?.token != nil { deliver() }
            let token = nodes[index].publishing.removeFirst()
            // Before requests, as the queue's priorities have it.
            lastMessage += 1
            let place = queue.firstIndex { $0.token == nil } ?? queue.count
            queue.insert(Message(token: token, id: lastMessage), at: place)
            perform(nodes[index].table.confirmed(token, shard: 0), index)
        case 7:
            guard let tag = nodes[index].running.first else { return }
            nodes[index].running.removeFirst()
            nodes[index].unacknowledged[tag] = nil
            perform(nodes[index].table.ended(tag, shard: 0, at: now), index)
        case 8: perform(nodes[index].table.place(owned: random.next() % 2 == 0 ? [0] : [], at: now), index)
        case 9: perform(nodes[index].table.tick(clock: 1000, at: now), index)
        case 10 where nodes[index].isReleasing:
            nodes[index].isReleasing = false
            leave(index)
            let tags = nodes[index].table.released(0, at: now)
            giveBack(tags, index)
            consume(index)
        case 11 where random.next() % 4 == 0:
            lose(index)
        default: return
        }
        check()
    }

    /// The channel is lost, and comes back. What was on its way to the broker has got there, or not.
    private mutating func lose(_ index: Int) {
        leave(index)
        nodes[index].isReleasing = false
        for token in nodes[index].publishing where random.next() % 2 == 0 {
            lastMessage += 1
            queue.insert(Message(token: token, id: lastMessage), at: 0)
        }
        queue.insert(contentsOf: nodes[index].acknowledging, at: 0)
        nodes[index].acknowledging = []
        nodes[index].publishing = []
        nodes[index].running = []
        _ = nodes[index].table.lostAll()
        giveBack(Array(nodes[index].unacknowledged.keys), index)
        consume(index)
    }

    private mutating func leave(_ index: Int) {
        line.removeAll { $0 == index }
        nodes[index].isConsuming = false
    }

    private mutating func giveBack(_ tags: [UInt64], _ index: Int) {
        let messages = tags.compactMap { nodes[index].unacknowledged.removeValue(forKey: $0) }
        queue.insert(contentsOf: messages.filter { $0.token == nil }.sorted { $0.id < $1.id }, at: 0)
        queue.insert(contentsOf: messages.filter { $0.token != nil }.sorted { $0.id < $1.id }, at: 0)
    }

    private mutating func deliver() {
        guard let active = line.first, !queue.isEmpty else { return }
        let message = queue.removeFirst()
        nodes[active].lastTag += 1
        let tag = nodes[active].lastTag
        nodes[active].unacknowledged[tag] = message
        if let token = message.token {
            perform(nodes[active].table.token(token, tag, shard: 0, clock: 1000, at: now), active)
        } else {
            perform(nodes[active].table.request(tag, shard: 0, at: now), active)
        }
    }

    private mutating func perform(_ actions: [ShardTable.Action], _ index: Int) {
        for action in actions {
            switch action {
            case .publish(let token, _): nodes[index].publishing.append(token)
            case .acknowledge(let tag):
                let message = nodes[index].unacknowledged.removeValue(forKey: tag)
                nodes[index].acknowledging = random.next() % 2 == 0 ? message.map { [$0] } ?? [] : []
            case .run(let tag, _, let number):
                #expect(nodes[index].unacknowledged[tag] != nil, "a request is run that is not there")
                let isSame = number == greatest && holder == nodes[index].name
                #expect(
                    number > greatest || isSame,
                    "\(nodes[index].name) under \(number) after \(holder) under \(greatest)"
                )
                (greatest, holder) = (max(greatest, number), nodes[index].name)
                nodes[index].running.append(tag)
            case .endActivations: break
            case .abandon: return lose(index)
            case .release: nodes[index].isReleasing = true
            }
        }
    }

    private func check() {
        let running = nodes.filter { !$0.running.isEmpty }
        let tokens =
            queue.count { $0.token != nil }
            + nodes.reduce(0) { count, node in
                count + node.publishing.count + node.unacknowledged.values.count { $0.token != nil }
            }
        #expect(tokens > 0, "the token is lost")
        #expect(running.count <= 1, "\(running.map(\.name)) work at the same time")
    }
}

private struct SplitMix {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
