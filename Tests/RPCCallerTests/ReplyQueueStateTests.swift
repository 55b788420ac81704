import Synchronization
import Testing

@testable import RPCCaller

@Suite("The reply queue's name")
struct ReplyQueueStateTests {
    typealias State = ReplyQueueState<String>

    func state() -> State {
        let count = Mutex(0)
        return State {
            count.withLock { count in
                count += 1
                return "q\(count)"
            }
        }
    }

    /// Declares and consumes without anything coming between.
    func attach(_ channel: String, _ state: inout State, consumers: Int) -> [State.Action] {
        let attempt = state.begin(channel)
        let (first, lost) = state.declared(channel, attempt, consumers: consumers)
        #expect(first == .proceed)
        let (second, usable) = state.consumes(channel, attempt)
        #expect(second == .proceed)
        return lost + usable
    }

    @Test("the first channel that consumes makes it usable, the others change nothing")
    func usable() {
        var state = state()
        #expect(!state.isConsumed)
        #expect(attach("a", &state, consumers: 0) == [.usable])
        #expect(attach("b", &state, consumers: 1) == [])
        #expect(state.isConsumed)
        #expect(state.name == "q1")
    }

    @Test("two channels that declare at once, before either consumes, keep the name")
    func declareAtOnce() {
        var state = state()
        let a = state.begin("a")
        let b = state.begin("b")
        #expect(state.declared("a", a, consumers: 0) == (.proceed, []))
        #expect(state.consumes("a", a) == (.proceed, [.usable]))
        // b's declare was answered before a consumed; the answer is only read now.
        #expect(state.declared("b", b, consumers: 0) == (.proceed, []))
        #expect(state.consumes("b", b) == (.proceed, []))
        #expect(state.name == "q1")
    }

    @Test("a channel that closes while another consumes changes nothing")
    func oneCloses() {
        var state = state()
        _ = attach("a", &state, consumers: 0)
        _ = attach("b", &state, consumers: 1)
        #expect(state.closed("a") == [])
        #expect(state.name == "q1")
    }

    @Test("the last consumer's close loses the queue; the next one attaches to a new name")
    func lastCloses() {
        var state = state()
        _ = attach("a", &state, consumers: 0)
        #expect(state.closed("a") == [.lost(name: "q1")])
        #expect(state.name == "q2")
        #expect(!state.isConsumed)
        #expect(attach("a2", &state, consumers: 0) == [.usable])
    }

    @Test("a channel that closes before it consumed loses nothing")
    func closesWhileAttaching() {
        var state = state()
        _ = state.begin("a")
        #expect(state.closed("a") == [])
        #expect(state.name == "q1")
    }

    @Test("who declared the name that is lost meanwhile begins again")
    func lostWhileAttaching() {
        var state = state()
        _ = attach("a", &state, consumers: 0)
        let b = state.begin("b")
        #expect(state.closed("a") == [.lost(name: "q1")])
        #expect(state.declared("b", b, consumers: 0) == (.again, []))
        let again = state.begin("b")
        #expect(again.name == "q2")
        #expect(!again.othersConsumed)
        #expect(state.declared("b", again, consumers: 0) == (.proceed, []))
        #expect(state.consumes("b", again) == (.proceed, [.usable]))
    }

    @Test("who consumes the name that is lost meanwhile begins again")
    func lostBetweenDeclareAndConsume() {
        var state = state()
        _ = attach("a", &state, consumers: 0)
        let b = state.begin("b")
        #expect(state.declared("b", b, consumers: 1) == (.proceed, []))
        #expect(state.cancelled("a", name: "q1") == [.lost(name: "q1"), .move("a")])
        #expect(state.consumes("b", b) == (.again, []))
    }

    @Test("a declare that reports no consumer, sent while one of ours consumed, loses the queue and moves that one")
    func declaredEmpty() {
        var state = state()
        _ = attach("a", &state, consumers: 0)
        let b = state.begin("b")
        #expect(b.othersConsumed)
        #expect(state.declared("b", b, consumers: 0) == (.again, [.lost(name: "q1"), .move("a")]))
        #expect(state.name == "q2")
        #expect(!state.isConsumed)
    }

    @Test("a cancelled consumer moves every channel; the second notice of the same loss is ignored")
    func cancelled() {
        var state = state()
        _ = attach("a", &state, consumers: 0)
        _ = attach("b", &state, consumers: 1)
        let actions = state.cancelled("a", name: "q1")
        #expect(actions.first == .lost(name: "q1"))
        #expect(Set(actions.dropFirst().map { "\($0)" }) == Set([State.Action.move("a"), .move("b")].map { "\($0)" }))
        #expect(state.cancelled("b", name: "q1") == [])
        #expect(state.name == "q2")
    }

    @Test("a consumer that is cancelled before its consume was seen to be answered does not count")
    func cancelledEarly() {
        var state = state()
        let attempt = state.begin("a")
        #expect(state.declared("a", attempt, consumers: 0) == (.proceed, []))
        #expect(state.cancelled("a", name: "q1") == [.lost(name: "q1")])
        #expect(state.consumes("a", attempt) == (.again, []))
        #expect(!state.isConsumed)
    }

    @Test("404 for the current name loses it, 404 for an old one does not")
    func missing() {
        var state = state()
        let attempt = state.begin("a")
        #expect(state.missing(name: attempt.name) == [.lost(name: "q1")])
        #expect(state.missing(name: attempt.name) == [])
        #expect(state.name == "q2")
    }

    @Test("a closed channel's late answers do not count as a consumer")
    func lateAnswers() {
        var state = state()
        let attempt = state.begin("a")
        _ = state.closed("a")
        #expect(state.declared("a", attempt, consumers: 0) == (.again, []))
        #expect(state.consumes("a", attempt) == (.again, []))
        #expect(!state.isConsumed)
    }
}

private func == (
    left: (ReplyQueueState<String>.Step, [ReplyQueueState<String>.Action]),
    right: (ReplyQueueState<String>.Step, [ReplyQueueState<String>.Action])
) -> Bool {
    left.0 == right.0 && left.1 == right.1
}
