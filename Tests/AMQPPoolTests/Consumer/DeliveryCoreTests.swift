import NIOCore
import Supervision
import Testing

@testable import AMQPPool

/// A message that is nothing but its text.
private final class Text: DeliveredMessage {
    let text: String

    init(_ text: String) {
        self.text = text
    }
}

extension DeliveryCore.Item {
    fileprivate var text: String { (message as? Text)?.text ?? "?" }
}

private final class Source: DeliverySource {
    func settle(_ tag: UInt64, _ settlement: Settlement) {}
}

/// A core, and a record of what it decided.
private struct Harness {
    var core: DeliveryCore
    var now = Duration.zero
    var lastTag: UInt64 = 0
    var onTimeLimit: (Int) -> Disposition = { _ in .reject }
    private var pending: [DeliveryCore.Action] = []

    init(_ change: (inout DeliveryCore.Settings) -> Void = { _ in }) {
        var settings = DeliveryCore.Settings()
        settings.concurrency = 2
        change(&settings)
        core = DeliveryCore(settings)
        core.opened(1, .queue, for: Source())
    }

    /// What was decided since the last time, as text.
    mutating func decisions() -> [String] {
        defer { pending = [] }
        return pending.map { action in
            switch action {
            case .run(let run, let first, let rest):
                let all = ([first] + rest).map { $0.attempt == 1 ? $0.text : "\($0.text)#\($0.attempt)" }
                return "run \(run): \(all.joined(separator: " "))"
            case .cancel(let run): return "cancel \(run)"
            case .resume(let run): return "resume \(run)"
            case .decide(let item, let run): return "decide \(item.key)" + (run == nil ? " unstarted" : "")
            case .lost(let item, _): return "lost \(item.key)"
            case .carryOut: return "carry out"
            case .settle(_, let tag, let settlement): return "\(settlement) \(tag)"
            case .publish(let key, let forward): return "publish \(key) to \(forward.routingKey)"
            case .withdraw(let key): return "withdraw \(key)"
            case .tripped(let pause): return "tripped for \(pause)"
            case .recovered: return "recovered"
            case .zombies(let count): return "zombies \(count)"
            }
        }
    }

    /// Whether each was taken.
    @discardableResult
    mutating func arrive(
        _ messages: String...,
        key: Int? = nil,
        source: UInt64 = 1,
        timeLeft: Duration? = nil,
        mayBeRefused: Bool = false,
        disposition: Disposition? = nil
    ) -> [Bool] {
        messages.map { message in
            lastTag += 1
            return core.arrived(
                Text(message),
                from: source,
                tag: lastTag,
                partition: key,
                timeLeft: timeLeft,
                mayBeRefused: mayBeRefused,
                disposition: disposition,
                at: now,
                &pending
            )
        }
    }

    mutating func end(_ run: UInt64, _ dispositions: Disposition...) {
        core.ended(run, Dispositions(dispositions), at: now, &pending)
    }

    mutating func pass(_ time: Duration) {
        now += time
        while let due = core.nextWake, due <= now { core.tick(at: now, &pending) }
        for case .decide(let item, _) in pending {
            core.decided(item.key, onTimeLimit(item.attempt), at: now, &pending)
        }
        pending.removeAll { if case .decide = $0 { true } else { false } }
    }

    mutating func published(_ key: UInt64, _ isConfirmed: Bool) {
        core.published(key, isConfirmed ? .confirmed : .failed, at: now, &pending)
    }

    mutating func change(_ body: (inout DeliveryCore, Duration, inout [DeliveryCore.Action]) -> Void) {
        body(&core, now, &pending)
    }
}

private let copy = Disposition.forward(
    Forward(exchange: "", routingKey: "later", properties: MessageProperties(), body: .init())
)

@Suite("The decisions about deliveries")
struct DeliveryCoreTests {
    @Test("No more handlers run than may, the others follow in order, and each message is settled once")
    func concurrency() {
        var harness = Harness()
        harness.arrive("a", "b", "c")
        #expect(harness.decisions() == ["run 1: a", "run 2: b"])
        harness.end(2, .acknowledge)
        #expect(harness.decisions() == ["acknowledge 2", "run 3: c"])
        harness.end(2, .acknowledge)
        #expect(harness.decisions() == [])
        harness.end(1, .reject)
        harness.end(3, .requeue(after: .zero))
        #expect(harness.decisions() == ["reject 1", "requeue 3"])
        #expect(harness.core.count == 0)
    }

    @Test("A message that is tried again in place takes no place while it waits, and is counted")
    func retry() {
        var harness = Harness { $0.concurrency = 1 }
        harness.arrive("a", "b")
        harness.end(1, .retry(after: .seconds(1)))
        #expect(harness.decisions() == ["run 1: a", "run 2: b"])
        harness.end(2, .acknowledge)
        harness.pass(.milliseconds(999))
        #expect(harness.decisions() == ["acknowledge 2"])
        harness.pass(.milliseconds(1))
        #expect(harness.decisions() == ["run 3: a#2"])
    }

    @Test("A handler that takes too long is cancelled, its place is free, and its end changes nothing")
    func timeLimit() {
        var harness = Harness {
            $0.concurrency = 1
            $0.timeLimit = .seconds(5)
        }
        harness.arrive("a", "b")
        harness.pass(.seconds(5))
        #expect(harness.decisions() == ["run 1: a", "cancel 1", "zombies 1", "run 2: b", "reject 1"])
        harness.end(1, .acknowledge)
        #expect(harness.decisions() == ["zombies 0"])
    }

    @Test("The longest durations of settings and of errors overflow nothing")
    func longest() {
        let longest = Duration(secondsComponent: .max, attosecondsComponent: 0)
        var harness = Harness {
            $0.timeLimit = longest
            $0.batchSize = 2
            $0.batchDelay = longest
            $0.rate = DeliveryRate(3, in: longest)
            $0.killSwitch = KillSwitch(share: 1, minimum: 3, window: longest, pause: longest)
        }
        harness.pass(.seconds(1))
        harness.arrive("a", "b")
        harness.end(1, .retry(after: longest), .requeue(after: longest))
        harness.arrive("c", "d", "e")
        harness.pass(.seconds(1))
        harness.end(2, .reject)
        harness.pass(.seconds(1))
        #expect(
            harness.decisions() == ["run 1: a b", "run 2: c d", "tripped for \(longest)", "reject 3", "requeue 4"]
        )
        #expect(harness.core.count == 3)
        #expect(harness.core.nextWake != nil)
    }

    @Test("When more handlers ignore their cancellation than may run, nothing more begins")
    func zombies() {
        var harness = Harness {
            $0.concurrency = 1
            $0.timeLimit = .seconds(5)
        }
        harness.arrive("a", "b", "c")
        harness.pass(.seconds(5))
        harness.pass(.seconds(5))
        #expect(
            harness.decisions() == [
                "run 1: a", "cancel 1", "zombies 1", "run 2: b", "reject 1", "cancel 2", "zombies 2", "reject 2",
            ]
        )
        harness.end(1, .acknowledge)
        #expect(harness.decisions() == ["zombies 1", "run 3: c"])
    }

    @Test("What comes on a channel that is lost is not settled, and its handlers are cancelled")
    func channelLost() {
        var harness = Harness()
        harness.change { core, _, _ in core.opened(2, .queue, for: Source()) }
        harness.arrive("a")
        harness.arrive("b", source: 2)
        harness.arrive("c", "d")
        _ = harness.decisions()
        harness.change { $0.closed(1, at: $1, &$2) }
        let decisions = harness.decisions()
        #expect(Set(decisions) == ["lost 1", "lost 3", "lost 4", "cancel 1", "zombies 1"])
        #expect(decisions.suffix(2) == ["cancel 1", "zombies 1"])
        harness.end(1, .acknowledge)
        harness.end(2, .acknowledge)
        #expect(harness.decisions() == ["zombies 0", "acknowledge 2"])
        harness.arrive("late")
        #expect(harness.decisions() == [])
        #expect(harness.core.count == 0)
    }

    @Test("A copy is published until it is confirmed, and only then is the message acknowledged")
    func forward() {
        var harness = Harness {
            $0.concurrency = 1
            $0.publishBackoff = Backoff(minimum: .seconds(1), maximum: .seconds(60), jitter: 0)
        }
        harness.arrive("a", "b")
        harness.end(1, copy)
        #expect(harness.decisions() == ["run 1: a", "publish 1 to later", "run 2: b"])
        harness.published(1, false)
        harness.pass(.seconds(1))
        #expect(harness.decisions() == ["publish 1 to later"])
        harness.published(1, false)
        harness.pass(.seconds(1))
        #expect(harness.decisions() == [])
        harness.pass(.seconds(1))
        harness.published(1, true)
        #expect(harness.decisions() == ["publish 1 to later", "acknowledge 1"])
        harness.published(1, true)
        #expect(harness.decisions() == [])
    }

    @Test("A copy that is on its way at a stop is waited for, and its message not given back as well")
    func forwardedAtStop() {
        var harness = Harness()
        harness.arrive("a", "b")
        harness.end(1, copy)
        harness.end(2, copy)
        harness.change { core, _, _ in core.stopStarting() }
        harness.change { $0.drain(finishing: false, at: $1, &$2) }
        _ = harness.decisions()
        harness.published(1, true)
        harness.published(2, false)
        #expect(harness.decisions() == ["acknowledge 1", "requeue 2"])
        #expect(harness.core.count == 0)
    }

    @Test("A copy of a message whose channel is lost is withdrawn: the message comes again")
    func forwardedAtLoss() {
        var harness = Harness()
        harness.arrive("a")
        harness.end(1, copy)
        _ = harness.decisions()
        harness.change { $0.closed(1, at: $1, &$2) }
        harness.published(1, true)
        #expect(harness.decisions() == ["withdraw 1", "lost 1"])
    }

    @Test("At a stop what was not tried is given back as such, what failed as tried, what runs is finished")
    func drain() {
        var harness = Harness()
        harness.arrive("a", "b", "c", "d")
        harness.end(1, .retry(after: .seconds(1)))
        _ = harness.decisions()
        harness.change { core, _, _ in core.stopStarting() }
        harness.arrive("e")
        harness.end(2, .acknowledge)
        #expect(harness.decisions() == ["acknowledge 2"])
        harness.change { $0.drain(finishing: false, at: $1, &$2) }
        #expect(Set(harness.decisions()) == ["requeue 1", "giveBack 4", "giveBack 5"])
        harness.arrive("f")
        harness.end(3, .retry(after: .seconds(1)))
        #expect(harness.decisions() == ["giveBack 6", "requeue 3"])
        #expect(harness.core.count == 0)
    }

    @Test("A stop that finishes handles what is here, and what waits for the rest of its batch")
    func finish() {
        var harness = Harness {
            $0.batchSize = 3
            $0.batchDelay = .seconds(10)
            $0.concurrency = 1
        }
        harness.arrive("a", "b", "c", "d")
        harness.change { $0.drain(finishing: true, at: $1, &$2) }
        harness.end(1, .acknowledge, .acknowledge, .acknowledge)
        #expect(
            harness.decisions() == ["run 1: a b c", "acknowledge 1", "acknowledge 2", "acknowledge 3", "run 2: d"]
        )
    }

    @Test("A stream is told of nothing but acknowledgements: what fails is tried again here, or passed")
    func stream() {
        var harness = Harness()
        harness.change { core, _, _ in core.opened(2, .stream, for: Source()) }
        harness.arrive("a", "b", "c", source: 2)
        harness.end(1, .requeue(after: .zero))
        harness.end(2, .reject)
        #expect(harness.decisions() == ["run 1: a", "run 2: b", "run 3: c", "acknowledge 2", "run 4: a#2"])
        harness.end(4, .requeue(after: .seconds(1)))
        harness.change { core, _, _ in core.stopStarting() }
        harness.change { $0.drain(finishing: false, at: $1, &$2) }
        harness.end(3, .requeue(after: .zero))
        #expect(harness.decisions() == [])
        #expect(harness.core.count == 0)
    }

    @Test("Of what may be a stream nothing is given back before that is known", arguments: [true, false])
    func undetermined(_ isStream: Bool) {
        var harness = Harness()
        harness.change { core, _, _ in core.opened(2, .undetermined, for: Source()) }
        harness.arrive("a", "b", source: 2)
        harness.end(1, .reject)
        harness.end(2, .acknowledge)
        #expect(harness.decisions() == ["run 1: a", "run 2: b", "acknowledge 2"])
        harness.change { $0.determined(2, isStream ? .stream : .queue, at: $1, &$2) }
        #expect(harness.decisions() == [isStream ? "acknowledge 1" : "reject 1"])
    }

    @Test("What is given back goes in the order in which it came, behind what runs of its key and may go back, too")
    func orderGivenBack() {
        var harness = Harness { $0.concurrency = 1 }
        harness.arrive("a1", key: 1)
        harness.arrive("b1", "b2", key: 2)
        harness.arrive("a2", "a3", key: 1)
        harness.arrive("c1", "c2")
        _ = harness.decisions()
        harness.change { $0.setPaused(true, at: $1, &$2) }
        harness.change { core, _, actions in core.giveBack(nil, &actions) }
        #expect(harness.decisions() == ["giveBack 2", "giveBack 3", "giveBack 6", "giveBack 7"])
        // The worker goes on before that has ended.
        harness.change { $0.setPaused(false, at: $1, &$2) }
        harness.arrive("a4", key: 1)
        harness.end(1, .retry(after: .seconds(1)))
        #expect(harness.decisions() == ["requeue 1", "giveBack 4", "giveBack 5", "giveBack 8"])
        #expect(harness.core.count == 0)
    }

    @Test("At a stop nothing passes a message of its key that goes back", arguments: [true, false])
    func orderAtStop(_ finishing: Bool) {
        var harness = Harness { $0.concurrency = 1 }
        harness.arrive("a1", "a2", key: 1)
        harness.end(1, .retry(after: .seconds(1)))
        harness.arrive("b1", "b2", key: 2)
        _ = harness.decisions()
        harness.change { core, _, _ in core.stopStarting() }
        harness.change { $0.drain(finishing: finishing, at: $1, &$2) }
        #expect(harness.decisions() == ["requeue 1", "giveBack 2"])
        harness.end(2, .retry(after: .seconds(1)))
        #expect(harness.decisions() == ["requeue 3", "giveBack 4"])
        #expect(harness.core.count == 0)
    }

    @Test("A message that is settled as it comes lets none of its key begin that waits")
    func orderedArrival() {
        var harness = Harness()
        harness.arrive("a1", "a2", key: 1)
        harness.arrive("a3", key: 1, disposition: .reject)
        harness.arrive("a4", key: 1, disposition: copy)
        harness.published(4, true)
        #expect(harness.decisions() == ["run 1: a1", "reject 3", "publish 4 to later", "acknowledge 4"])
        harness.end(1, .acknowledge)
        #expect(harness.decisions() == ["acknowledge 1", "run 2: a2"])
    }

    @Test("What goes back before its source is known keeps its order when that is known", arguments: [true, false])
    func orderUndetermined(_ isStream: Bool) {
        var harness = Harness()
        harness.change { core, _, _ in core.opened(2, .undetermined, for: Source()) }
        harness.arrive("a1", "a2", "a3", key: 1, source: 2)
        harness.change { $0.setPaused(true, at: $1, &$2) }
        harness.change { core, _, actions in core.giveBack(nil, &actions) }
        harness.end(1, .acknowledge)
        harness.change { $0.determined(2, isStream ? .stream : .queue, at: $1, &$2) }
        harness.change { $0.setPaused(false, at: $1, &$2) }
        let rest = isStream ? ["acknowledge 1", "run 2: a2"] : ["acknowledge 1", "giveBack 2", "giveBack 3"]
        #expect(harness.decisions() == ["run 1: a1"] + rest)
    }

    @Test("What waits of a stream stays here while its consumer pauses, and is not counted as tried")
    func pausedStream() {
        var harness = Harness { $0.concurrency = 1 }
        harness.change { core, _, _ in core.opened(2, .stream, for: Source()) }
        harness.arrive("a1", "a2", "a3", key: 1, source: 2)
        harness.change { $0.setPaused(true, at: $1, &$2) }
        harness.change { core, _, actions in core.giveBack(nil, &actions) }
        harness.end(1, .acknowledge)
        #expect(harness.decisions() == ["run 1: a1", "acknowledge 1"])
        harness.change { $0.setPaused(false, at: $1, &$2) }
        harness.end(2, .acknowledge)
        #expect(harness.decisions() == ["run 2: a2", "acknowledge 2", "run 3: a3"])
        // Its queue is removed.
        harness.arrive("a4", key: 1, source: 2)
        harness.change { core, _, actions in core.giveBack(2, &actions) }
        harness.end(3, .acknowledge)
        #expect(harness.decisions() == ["acknowledge 3"])
        #expect(harness.core.count == 0)
    }

    @Test("Of one key one runs at a time, and none is handled after an earlier one that went back, whatever happens")
    func anyOrderOfKeys() {
        for seed in 0..<300 {
            var random = SplitMix(state: UInt64(seed))
            var harness = Harness {
                $0.concurrency = Int.random(in: 1...3, using: &random)
                $0.timeLimit = .seconds(10)
            }
            harness.onTimeLimit = { $0 > 2 ? .reject : .retry(after: .seconds(1)) }
            var keys: [UInt64: Int] = [:]
            var present: Set<UInt64> = []
            var running: [UInt64: UInt64] = [:]
            var publishing: [UInt64] = []
            /// What came before another one of its key went back has to follow it.
            var mustFollow: Set<UInt64> = []
            func look(_ harness: inout Harness) {
                for decision in harness.decisions() {
                    let words = decision.split(separator: " ")
                    let number = words.count > 1 ? UInt64(words[1].filter(\.isNumber)) ?? 0 : 0
                    switch words[0] {
                    case "run":
                        let tag = UInt64(words[2].split(separator: "#")[0]) ?? 0
                        #expect(!running.values.contains { keys[$0] == keys[tag] }, "seed \(seed): \(decision)")
                        #expect(!mustFollow.contains(tag), "seed \(seed): \(decision)")
                        running[number] = tag
                    case "publish": publishing.append(number)
                    case "acknowledge", "reject":
                        #expect(!mustFollow.contains(number) || keys[number] == nil, "seed \(seed): \(decision)")
                        present.remove(number)
                    case "requeue", "giveBack":
                        let earlier = mustFollow.filter {
                            keys[$0] == keys[number] && $0 < number && present.contains($0)
                        }
                        #expect(earlier.isEmpty, "seed \(seed): \(decision) before \(earlier)")
                        present.remove(number)
                        mustFollow.formUnion(present.filter { $0 > number && keys[$0] == keys[number] })
                    default: break
                    }
                }
            }
            for _ in 0..<80 {
                switch Int.random(in: 0..<8, using: &random) {
                case 0, 1, 2:
                    let tag = harness.lastTag + 1
                    let key = Int.random(in: 1...2, using: &random)
                    // What is decided already has no part in the order.
                    let isDecided = Int.random(in: 0..<6, using: &random) == 0
                    if !isDecided {
                        keys[tag] = key
                        present.insert(tag)
                    }
                    harness.arrive("\(tag)", key: key, disposition: isDecided ? .reject : nil)
                case 3, 4:
                    guard let run = running.keys.sorted().randomElement(using: &random) else { break }
                    let all: [Disposition] = [
                        .acknowledge, .acknowledge, .retry(after: .seconds(1)), .requeue(after: .seconds(1)),
                        .requeue(after: .zero), copy,
                    ]
                    running[run] = nil
                    harness.end(run, all.randomElement(using: &random) ?? .acknowledge)
                case 5:
                    guard let index = publishing.indices.randomElement(using: &random) else { break }
                    harness.published(publishing.remove(at: index), Bool.random(using: &random))
                case 6: harness.pass(.seconds(1))
                default:
                    let isLasting = Bool.random(using: &random)
                    harness.change { $0.setPaused(true, at: $1, &$2) }
                    harness.change { core, _, actions in core.giveBack(nil, &actions) }
                    look(&harness)
                    if isLasting { harness.pass(.seconds(2)) }
                    harness.change { $0.setPaused(false, at: $1, &$2) }
                }
                look(&harness)
            }
            harness.change { core, _, _ in core.stopStarting() }
            harness.change { $0.drain(finishing: seed.isMultiple(of: 2), at: $1, &$2) }
            look(&harness)
            while !running.isEmpty || !publishing.isEmpty {
                for run in running.keys.sorted() {
                    running[run] = nil
                    harness.end(
                        run,
                        [.acknowledge, .retry(after: .zero)].randomElement(using: &random) ?? .acknowledge
                    )
                    look(&harness)
                }
                for key in publishing { harness.published(key, Bool.random(using: &random)) }
                publishing = []
                look(&harness)
            }
            #expect(harness.core.count == 0, "seed \(seed)")
            #expect(present.isEmpty, "seed \(seed)")
        }
    }

    @Test("Messages of one key run one after another, also over retries in place; keys side by side")
    func ordered() {
        var harness = Harness { $0.concurrency = 10 }
        harness.arrive("a1", "a2", "a3", key: 1)
        harness.arrive("b1", key: 2)
        harness.arrive("free")
        #expect(harness.decisions() == ["run 1: a1", "run 2: b1", "run 3: free"])
        harness.end(1, .retry(after: .seconds(1)))
        harness.pass(.seconds(1))
        #expect(harness.decisions() == ["run 4: a1#2"])
        harness.end(4, copy)
        #expect(harness.decisions() == ["publish 1 to later"])
        harness.published(1, true)
        #expect(harness.decisions() == ["acknowledge 1", "run 5: a2"])
        harness.end(5, .acknowledge)
        harness.end(2, .acknowledge)
        #expect(harness.decisions() == ["acknowledge 2", "run 6: a3", "acknowledge 4"])
    }

    @Test("A key waits for a handler that ignores its cancellation: two of one key never run at once")
    func orderedZombie() {
        var harness = Harness {
            $0.timeLimit = .seconds(5)
        }
        harness.arrive("a1", "a2", key: 1)
        harness.pass(.seconds(5))
        harness.arrive("b", key: 2)
        #expect(harness.decisions() == ["run 1: a1", "cancel 1", "zombies 1", "reject 1", "run 2: b"])
        harness.end(1, .acknowledge)
        #expect(harness.decisions() == ["zombies 0", "run 3: a2"])
    }

    @Test("An attempt in place waits for the one before that ignores its cancellation, and its key for both")
    func orderedZombieAgain() {
        var harness = Harness { $0.timeLimit = .seconds(5) }
        harness.onTimeLimit = { _ in .retry(after: .zero) }
        harness.arrive("a1", "a2", key: 1)
        harness.pass(.seconds(5))
        harness.pass(.zero)
        #expect(harness.decisions() == ["run 1: a1", "cancel 1", "zombies 1"])
        harness.end(1, .acknowledge)
        #expect(harness.decisions() == ["zombies 0", "run 2: a1#2"])
        harness.end(2, .acknowledge)
        #expect(harness.decisions() == ["acknowledge 1", "run 3: a2"])
    }

    @Test(
        "A batch runs when it is full or has waited long enough, and each message is settled by itself"
    )
    func batches() {
        var harness = Harness {
            $0.batchSize = 3
            $0.batchDelay = .seconds(1)
        }
        harness.arrive("a", "b")
        harness.pass(.milliseconds(500))
        harness.arrive("c", "d")
        #expect(harness.decisions() == ["run 1: a b c"])
        harness.pass(.seconds(1))
        #expect(harness.decisions() == ["run 2: d"])
        harness.end(1, .acknowledge, .reject, .retry(after: .seconds(1)))
        #expect(harness.decisions() == ["acknowledge 1", "reject 2"])
        harness.pass(.seconds(1))
        #expect(harness.decisions() == ["run 3: c#2"])
        // A handler that says nothing about a message has not handled it.
        harness.end(2)
        #expect(harness.decisions() == ["requeue 4"])
    }

    @Test("Batches are made by key, one of a key at a time")
    func keyedBatches() {
        var harness = Harness {
            $0.batchSize = 2
            $0.batchDelay = .seconds(1)
            $0.concurrency = 10
        }
        harness.arrive("a1", key: 1)
        harness.arrive("b1", key: 2)
        harness.arrive("a2", "a3", "a4", key: 1)
        #expect(harness.decisions() == ["run 1: a1 a2"])
        harness.end(1, .acknowledge, .acknowledge)
        harness.pass(.seconds(1))
        #expect(harness.decisions() == ["acknowledge 1", "acknowledge 3", "run 2: a3 a4", "run 3: b1"])
    }

    @Test("No more begin in a time than the rate says, and the rest follow as it allows")
    func rate() {
        var harness = Harness {
            $0.concurrency = 100
            $0.rate = DeliveryRate(2, in: .seconds(1))
        }
        harness.arrive("a", "b", "c", "d")
        #expect(harness.decisions() == ["run 1: a", "run 2: b"])
        harness.pass(.milliseconds(500))
        #expect(harness.decisions() == ["run 3: c"])
        harness.change { $0.setRate(nil, at: $1, &$2) }
        #expect(harness.decisions() == ["run 4: d"])
    }

    @Test("When too large a share fails, nothing begins for a while, and then it begins anew")
    func killSwitch() {
        var harness = Harness {
            $0.concurrency = 1
            $0.killSwitch = KillSwitch(share: 0.5, minimum: 2, window: .seconds(60), pause: .seconds(30))
        }
        harness.arrive("a", "b", "c")
        harness.end(1, .reject)
        harness.end(2, .reject)
        #expect(
            harness.decisions() == ["run 1: a", "reject 1", "run 2: b", "tripped for 30.0 seconds", "reject 2"]
        )
        harness.pass(.seconds(30))
        #expect(harness.decisions() == ["recovered", "run 3: c"])
    }

    @Test("Paused it begins nothing, and more or fewer may run from any moment on")
    func control() {
        var harness = Harness { $0.concurrency = 1 }
        harness.change { $0.setPaused(true, at: $1, &$2) }
        harness.arrive("a", "b", "c")
        #expect(harness.decisions() == [])
        harness.change { $0.setPaused(false, at: $1, &$2) }
        harness.change { $0.setConcurrency(2, at: $1, &$2) }
        #expect(harness.decisions() == ["run 1: a", "run 2: b"])
        harness.change { $0.setConcurrency(1, at: $1, &$2) }
        harness.end(1, .acknowledge)
        #expect(harness.decisions() == ["acknowledge 1"])
        harness.end(2, .acknowledge)
        #expect(harness.decisions() == ["acknowledge 2", "run 3: c"])
    }

    // MARK: What receivers of requests need

    @Test("One whose time is over is decided about once, whether it runs or waits, and never begins after that")
    func deadlines() {
        var harness = Harness { $0.concurrency = 1 }
        harness.onTimeLimit = { _ in .acknowledge }
        harness.arrive("long", timeLeft: .seconds(2))
        harness.arrive("short", timeLeft: .seconds(1))
        harness.arrive("any")
        #expect(harness.decisions() == ["run 1: long"])
        harness.pass(.seconds(1))
        #expect(harness.decisions() == ["acknowledge 2"])
        // The alarm is late.
        harness.arrive("late", timeLeft: .milliseconds(500))
        harness.now += .milliseconds(600)
        harness.end(1, .acknowledge)
        harness.end(2, .acknowledge)
        #expect(harness.decisions() == ["acknowledge 1", "run 2: any", "acknowledge 3"])
        harness.pass(.zero)
        #expect(harness.decisions() == ["acknowledge 4"])
        #expect([harness.core.count, harness.core.waiting, harness.core.running] == [0, 0, 0])
    }

    @Test("Of one that is over is told whether it had begun, and its handler is a zombie until it ends")
    func begunOrNot() {
        var harness = Harness {
            $0.concurrency = 1
            $0.zombies = .counted
        }
        harness.arrive("a", "b", timeLeft: .seconds(1))
        harness.now += .seconds(1)
        harness.change { $0.tick(at: $1, &$2) }
        #expect(harness.decisions() == ["run 1: a", "cancel 1", "zombies 1", "decide 1", "decide 2 unstarted"])
        harness.change { core, now, actions in
            for key: UInt64 in [1, 2] { core.decided(key, .settled {}, at: now, &actions) }
        }
        harness.end(1, .acknowledge)
        #expect(harness.decisions() == ["carry out", "carry out", "zombies 0"])
        #expect(harness.core.count == 0)
    }

    @Test("Zombies that are counted only stop nothing")
    func countedZombies() {
        var harness = Harness {
            $0.concurrency = 1
            $0.timeLimit = .seconds(1)
            $0.zombies = .counted
        }
        for message in ["a", "b", "c"] {
            harness.arrive(message)
            harness.pass(.seconds(1))
        }
        #expect(harness.core.zombieCount == 3)
        harness.arrive("d")
        #expect(harness.core.running == 1)
    }

    @Test("With a bound of those that wait, what may be refused is, and nothing else")
    func bounded() {
        var harness = Harness {
            $0.concurrency = 1
            $0.maximumWaiting = 1
        }
        #expect(harness.arrive("runs", "waits", "too many", mayBeRefused: true) == [true, true, false])
        #expect(harness.arrive("waits all the same") == [true])
        #expect(harness.core.waiting == 2)
        harness.end(1, .acknowledge)
        harness.end(2, .acknowledge)
        #expect(harness.arrive("waits", mayBeRefused: true) == [true])
        #expect(harness.core.count == 2)
    }

    @Test("A handler that waits for something else has no place meanwhile, and goes on when it has one again")
    func suspends() {
        var harness = Harness()
        harness.arrive("first", "second", "third")
        harness.change { $0.suspended(2, at: $1, &$2) }
        #expect(harness.decisions() == ["run 1: first", "run 2: second", "run 3: third"])
        harness.change { $0.released(2, at: $1, &$2) }
        #expect(harness.decisions() == [], "there is no place")
        #expect([harness.core.running, harness.core.waiting] == [2, 1])
        #expect(harness.core.oldest(2).map(\.stage) == [.running, .resuming])
        harness.end(1, .acknowledge)
        #expect(harness.decisions() == ["acknowledge 1", "resume 2"])
        harness.end(2, .acknowledge)
        harness.end(3, .acknowledge)
        #expect(harness.decisions() == ["acknowledge 2", "acknowledge 3"])
        #expect([harness.core.count, harness.core.running, harness.core.waiting] == [0, 0, 0])
    }

    @Test("What a handler waits for may come before it waits")
    func releasedBefore() {
        var harness = Harness { $0.concurrency = 1 }
        harness.arrive("a", "b")
        harness.change { $0.released(1, at: $1, &$2) }
        harness.change { $0.suspended(1, at: $1, &$2) }
        #expect(harness.decisions() == ["run 1: a", "resume 1"])
        #expect(harness.core.running == 1)
    }

    @Test(
        "One that is given up while it is suspended, or waits for its place, leaves no zombie",
        arguments: [true, false]
    )
    func suspendedTooLong(_ isReleased: Bool) {
        var harness = Harness { $0.concurrency = 1 }
        harness.onTimeLimit = { _ in .acknowledge }
        harness.arrive("a", timeLeft: .seconds(1))
        harness.change { $0.suspended(1, at: $1, &$2) }
        harness.arrive("b")
        if isReleased { harness.change { $0.released(1, at: $1, &$2) } }
        harness.pass(.seconds(1))
        #expect(harness.decisions() == ["run 1: a", "run 2: b", "cancel 1", "acknowledge 1"])
        #expect([harness.core.zombieCount, harness.core.running, harness.core.waiting] == [0, 1, 0])
        harness.change { $0.released(1, at: $1, &$2) }
        harness.end(1, .acknowledge)
        harness.end(2, .acknowledge)
        #expect(harness.decisions() == ["acknowledge 2"])
    }

    @Test("After the end handlers are cancelled, nothing is settled, and nothing comes in, whatever opens")
    func ends() {
        var harness = Harness { $0.concurrency = 1 }
        harness.arrive("a", "b")
        harness.change { $0.closeAll(at: $1, &$2) }
        #expect(
            Set(harness.decisions()) == ["run 1: a", "lost 1", "lost 2", "cancel 1", "zombies 1"]
        )
        harness.change { core, _, _ in core.opened(9, .queue, for: Source()) }
        harness.arrive("c", source: 9)
        harness.end(1, .acknowledge)
        #expect(harness.decisions() == ["zombies 0"])
        #expect(harness.core.count == 0)
    }

    @Test("Whatever happens in whatever order, each message is settled once, and nothing is left")
    func anyOrder() {
        for seed in 0..<300 {
            var random = SplitMix(state: UInt64(seed))
            var harness = Harness {
                $0.concurrency = Int.random(in: 1...3, using: &random)
                $0.batchSize = Int.random(in: 1...3, using: &random)
                $0.batchDelay = .seconds(1)
                $0.timeLimit = .seconds(10)
            }
            harness.onTimeLimit = { $0 > 2 ? .reject : .retry(after: .seconds(1)) }
            var running: [UInt64] = []
            var publishing: [UInt64] = []
            var settled: [UInt64: Int] = [:]
            func look(_ harness: inout Harness) {
                for decision in harness.decisions() {
                    let words = decision.split(separator: " ")
                    let number = words.count > 1 ? UInt64(words[1].filter(\.isNumber)) ?? 0 : 0
                    switch words[0] {
                    case "run": running.append(number)
                    case "publish": publishing.append(number)
                    case "acknowledge", "reject", "requeue", "giveBack": settled[number, default: 0] += 1
                    default: break
                    }
                }
            }
            for step in 0..<60 {
                switch Int.random(in: 0..<7, using: &random) {
                case 0, 1:
                    harness.arrive(
                        "m\(step)",
                        key: [nil, 1, 2].randomElement(using: &random) ?? nil,
                        timeLeft: [nil, .seconds(3)].randomElement(using: &random) ?? nil
                    )
                case 2, 3:
                    guard let index = running.indices.randomElement(using: &random) else { break }
                    let all: [Disposition] = [.acknowledge, .reject, .retry(after: .seconds(1)), copy]
                    let run = running.remove(at: index)
                    let chosen = (0..<3).compactMap { _ in all.randomElement(using: &random) }
                    harness.end(run, chosen[0], chosen[1], chosen[2])
                case 4:
                    guard let index = publishing.indices.randomElement(using: &random) else { break }
                    harness.published(publishing.remove(at: index), Bool.random(using: &random))
                case 5:
                    guard let run = running.randomElement(using: &random) else { break }
                    harness.change { $0.suspended(run, at: $1, &$2) }
                    if Bool.random(using: &random) { harness.change { $0.released(run, at: $1, &$2) } }
                default: harness.pass(.seconds(1))
                }
                look(&harness)
            }
            harness.change { core, _, _ in core.stopStarting() }
            harness.change { $0.drain(finishing: seed.isMultiple(of: 2), at: $1, &$2) }
            look(&harness)
            while !running.isEmpty || !publishing.isEmpty {
                for run in running { harness.end(run, .acknowledge, .acknowledge, .acknowledge) }
                for key in publishing { harness.published(key, true) }
                running = []
                publishing = []
                look(&harness)
            }
            #expect(harness.core.count == 0, "seed \(seed)")
            #expect(harness.core.zombieCount == 0, "seed \(seed)")
            #expect([harness.core.running, harness.core.waiting] == [0, 0], "seed \(seed)")
            #expect(settled.count == Int(harness.lastTag), "seed \(seed)")
            #expect(settled.values.allSatisfy { $0 == 1 }, "seed \(seed)")
        }
    }
}

private struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
