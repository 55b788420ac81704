import RPCWire
import Supervision
import Testing

@testable import RPCCaller

@Suite("The pending table")
struct PendingTableTests {
    typealias Table = PendingTable<String>

    let start = CompactInstant.now

    func table(limit: Int = 10, overflow: Int = 0) -> Table { Table(limit: limit, overflow: overflow) }

    func expire(_ table: inout Table, _ passed: Duration) -> [Table.Ending] {
        table.expire(at: start + passed) { _ in false }.map(\.ending)
    }

    func begin(_ table: inout Table, _ call: String, kind: Table.Kind = .call, after: Duration = .seconds(5)) throws
        -> RequestID
    {
        let id = RequestID()
        try table.begin(id, kind: kind, call: call, deadline: start + after)
        return id
    }

    @Test("a reply takes the call out, and a second one finds nothing")
    func replyOnce() throws {
        var table = table()
        let id = try begin(&table, "a")
        #expect(table.take(id, now: start)?.call == "a")
        #expect(table.reply(to: id)?.call == "a")
        #expect(table.reply(to: id) == nil)
        #expect(table.count == 0)
    }

    @Test("a reply may come before the confirm, which then means nothing")
    func replyBeforeConfirm() throws {
        var table = table()
        let id = try begin(&table, "a")
        _ = table.take(id, now: start)
        #expect(table.reply(to: id) != nil)
        guard case .none = table.outcome(.confirmed, of: id, attempt: 1) else { return #expect(Bool(false)) }
    }

    @Test(
        "a call ends when its message is known not to be answered",
        arguments: [Table.Outcome.nacked, .returned, .unknown, .refused]
    )
    func endsByOutcome(_ outcome: Table.Outcome) throws {
        var table = table()
        let id = try begin(&table, "a")
        _ = table.take(id, now: start)
        guard case .ended(let ending) = table.outcome(outcome, of: id, attempt: 1), ending.call == "a" else {
            return #expect(Bool(false))
        }
        #expect(table.count == 0)
        #expect(table.reply(to: id) == nil)
    }

    @Test(
        "a confirmed or presumably delivered call goes on waiting",
        arguments: [Table.Outcome.confirmed, .presumedDelivered]
    )
    func goesOnWaiting(_ outcome: Table.Outcome) throws {
        var table = table()
        let id = try begin(&table, "a")
        _ = table.take(id, now: start)
        guard case .none = table.outcome(outcome, of: id, attempt: 1) else { return #expect(Bool(false)) }
        #expect(table.reply(to: id)?.call == "a")
    }

    @Test("a cast ends with its confirm, and no reply ends it")
    func cast() throws {
        var table = table()
        let id = try begin(&table, "a", kind: .cast)
        _ = table.take(id, now: start)
        #expect(table.reply(to: id) == nil)
        guard case .ended(let ending) = table.outcome(.confirmed, of: id, attempt: 1) else {
            return #expect(Bool(false))
        }
        #expect(ending.call == "a")
    }

    @Test("an unwritten message is sent again, and each submission has its own outcome")
    func sendsAgain() throws {
        var table = table()
        let id = try begin(&table, "a")
        #expect(table.take(id, now: start) != nil)
        #expect(table.take(id, now: start) == nil, "it is on its way already")
        guard case .sendAgain(_, after: .zero) = table.outcome(.notWritten, of: id, attempt: 1) else {
            return #expect(Bool(false))
        }
        guard case .none = table.outcome(.unknown, of: id, attempt: 1) else {
            return #expect(Bool(false), "nothing is on its way")
        }
        table.enqueue(id)
        #expect(table.takeFirstQueued(now: start + .seconds(1))?.remaining == .seconds(4))
        guard case .none = table.outcome(.unknown, of: id, attempt: 1) else {
            return #expect(Bool(false), "the outcome of an earlier attempt means nothing")
        }
        guard case .sendAgain(_, after: .zero) = table.outcome(.notWritten, of: id, attempt: 2) else {
            return #expect(Bool(false))
        }
    }

    @Test("what is cancelled while its message is on its way ends once, and is not sent again")
    func cancelledOnItsWay() throws {
        var table = table()
        let id = try begin(&table, "a")
        _ = table.take(id, now: start)
        #expect(table.remove(id)?.wasSubmitted == true)
        guard case .none = table.outcome(.notWritten, of: id, attempt: 1) else { return #expect(Bool(false)) }
        #expect(table.remove(id) == nil)
    }

    @Test("the loss of the reply queue ends the calls sent under its name, not those in line and not the casts")
    func replyQueueLost() throws {
        var table = table()
        let sent = try begin(&table, "sent")
        let waiting = try begin(&table, "waiting")
        let cast = try begin(&table, "cast", kind: .cast)
        _ = table.take(sent, now: start)
        _ = table.take(cast, now: start)
        table.enqueue(waiting)
        let lost = table.repliesLost { _ in false }
        #expect(lost.ended.map(\.call) == ["sent"])
        #expect(lost.withdrawn.isEmpty && lost.retries.isEmpty)
        #expect(table.takeFirstQueued(now: start)?.call == "waiting")
        #expect(table.count == 2)
    }

    @Test("a call whose message is not written is sent through another channel, at once and later after pauses")
    func notWritten() throws {
        var table = table()
        let id = try begin(&table, "a")
        var pauses: [Duration] = []
        for attempt in 1...9 {
            _ = table.take(id, now: start)
            guard case .sendAgain(id, let pause) = table.outcome(.notWritten, of: id, attempt: attempt) else {
                return #expect(Bool(false), "attempt \(attempt)")
            }
            pauses.append(pause)
        }
        #expect(pauses == [0, 0, 8, 16, 32, 64, 100, 100, 100].map { .milliseconds($0) })
    }

    @Test("a call that may be sent again ends when its deadline comes before the next attempt", arguments: [999, 1000])
    func noTimeForRetry(delay: Int) throws {
        var table = table()
        let id = RequestID()
        try table.begin(id, kind: .call, call: "a", deadline: start + .seconds(1), retries: 3, now: start)
        _ = table.take(id, now: start)
        guard case .retry(let retry) = table.outcome(.unknown, of: id, attempt: 1) else { return #expect(Bool(false)) }
        let ending = table.endUnlessTime(for: retry, after: .milliseconds(delay), now: start)
        #expect((ending != nil) == (delay == 1000))
        #expect(ending.map(\.doubt) == (ending == nil ? nil : .some(.connectionLost)))
        #expect(table.count == (ending == nil ? 1 : 0))
    }

    @Test("a deadline says whether its call was sent, found no place, or waited for something else")
    func whyExpired() throws {
        var table = table(limit: 1, overflow: 2)
        let sent = try begin(&table, "sent", after: .seconds(1))
        _ = try begin(&table, "no place", after: .seconds(1))
        _ = table.take(sent, now: start)
        let full = table.expire(at: start + .seconds(1)) { $0 == "sent" }
        #expect(
            Dictionary(uniqueKeysWithValues: full.map { ($0.ending.call, $0.why) }) == [
                "sent": .unanswered, "no place": .overloaded(limit: 1),
            ]
        )
        _ = try begin(&table, "no channel", after: .seconds(1))
        #expect(table.expire(at: start + .seconds(1)) { _ in false }.map(\.why) == [.unsent])
    }

    @Test("a call that is sent again is in doubt at its deadline, whether the new attempt was written or not")
    func expiredInDoubt() throws {
        var table = table()
        let id = RequestID()
        try table.begin(id, kind: .call, call: "a", deadline: start + .seconds(1), retries: 1, now: start)
        _ = table.take(id, now: start)
        guard case .retry = table.outcome(.unknown, of: id, attempt: 1) else { return #expect(Bool(false)) }
        #expect(table.expire(at: start + .seconds(1)) { _ in false }.map(\.why) == [.unanswered])
    }

    @Test("deadlines end what is due, in order, and say whether it had been sent")
    func expires() throws {
        var table = table()
        let late = try begin(&table, "late", after: .seconds(3))
        _ = try begin(&table, "second", after: .seconds(2))
        let first = try begin(&table, "first", after: .seconds(1))
        _ = table.take(first, now: start)
        #expect(table.earliestDeadline == start + .seconds(1))
        #expect(expire(&table, .milliseconds(999)).isEmpty)
        let expired = expire(&table, .seconds(2))
        #expect(expired.map(\.call) == ["first", "second"])
        #expect(expired.map(\.wasSubmitted) == [true, false])
        #expect(table.remove(late) != nil)
        #expect(expire(&table, .seconds(9)).isEmpty)
    }

    @Test("it takes in no more than its limit, and again when one ends")
    func bounded() throws {
        var table = table(limit: 2)
        let first = try begin(&table, "a")
        _ = try begin(&table, "b")
        #expect(throws: Table.Refusal.self) { _ = try begin(&table, "c") }
        _ = table.remove(first)
        _ = try begin(&table, "c")
        #expect(table.count == 2)
    }

    @Test("its end ends everything, and takes nothing in")
    func closes() throws {
        var table = table()
        let id = try begin(&table, "a")
        _ = try begin(&table, "b")
        _ = table.take(id, now: start)
        #expect(Set(table.close().map(\.call)) == ["a", "b"])
        #expect(table.close().isEmpty)
        #expect(throws: Table.Refusal.closed) { _ = try begin(&table, "c") }
        #expect(table.reply(to: id) == nil)
    }

    @Test("a line is served in order")
    func line() throws {
        var table = table()
        for name in ["a", "b", "c"] { table.enqueue(try begin(&table, name)) }
        #expect(table.takeFirstQueued(now: start)?.call == "a")
        #expect(table.takeFirstQueued(now: start)?.call == "b")
        #expect(table.takeFirstQueued(now: start)?.call == "c")
        #expect(table.takeFirstQueued(now: start) == nil)
        #expect(!table.hasQueued)
    }

    @Test("ten thousand calls with a long deadline leave no trace when they end")
    func leavesNothing() throws {
        var table = table(limit: 100)
        for _ in 0..<10_000 {
            let id = try begin(&table, "a", after: .seconds(3600))
            _ = table.reply(to: id)
            let other = try begin(&table, "b", after: .seconds(3600))
            table.enqueue(other)
            _ = table.remove(other)
        }
        #expect(table.count == 0)
        #expect(table.remembered < 200)
    }

    // MARK: Retries

    func begin(_ table: inout Table, retries: Int) throws -> RequestID {
        let id = RequestID()
        try table.begin(id, kind: .call, call: "a", deadline: start + .seconds(5), retries: retries)
        _ = table.take(id, now: start)
        return id
    }

    @Test(
        "what was not delivered, or may not have been, is retried as often as allowed, and then ends",
        arguments: [(Table.Outcome.nacked, nil), (.returned, nil), (.unknown, Table.Doubt.connectionLost)]
    )
    func retries(_ outcome: Table.Outcome, _ doubt: Table.Doubt?) throws {
        var table = table()
        let id = try begin(&table, retries: 1)
        guard case .retry(let retry) = table.outcome(outcome, of: id, attempt: 1) else { return #expect(Bool(false)) }
        #expect(retry.attempts == 1)
        #expect(retry.doubt == doubt)
        #expect(table.takeFirstQueued(now: start) == nil, "it pauses")
        table.enqueue(id)
        #expect(table.takeFirstQueued(now: start)?.attempt == 2)
        guard case .ended(let ending) = table.outcome(outcome, of: id, attempt: 2) else { return #expect(Bool(false)) }
        #expect(ending.doubt == doubt, "what an earlier attempt left open is not forgotten")
        #expect(table.count == 0)
    }

    @Test("what is refused here is not retried: it would be refused again")
    func notRetried() throws {
        var table = table()
        let id = try begin(&table, retries: 5)
        guard case .ended = table.outcome(.refused, of: id, attempt: 1) else { return #expect(Bool(false)) }
    }

    @Test("a reply to an earlier attempt ends a call that pauses before its next")
    func replyWhilePausing() throws {
        var table = table()
        let id = try begin(&table, retries: 1)
        guard case .retry = table.outcome(.unknown, of: id, attempt: 1) else { return #expect(Bool(false)) }
        #expect(table.reply(to: id)?.call == "a")
        table.enqueue(id)
        #expect(table.takeFirstQueued(now: start) == nil)
    }

    @Test(
        "when replies are lost, what was not written goes back into the line, and the outcome of its old message means nothing"
    )
    func withdrawn() throws {
        var table = table()
        let written = try begin(&table, retries: 0)
        let again = try begin(&table, retries: 1)
        let unwritten = RequestID()
        try table.begin(unwritten, kind: .call, call: "unwritten", deadline: start + .seconds(5))
        _ = table.take(unwritten, now: start)
        let lost = table.repliesLost { $0 == "unwritten" }
        #expect(lost.ended.count == 1)
        #expect(lost.retries.map(\.id) == [again])
        #expect(lost.withdrawn == [unwritten])
        #expect(table.reply(to: written) == nil)
        table.enqueue(unwritten)
        #expect(table.takeFirstQueued(now: start)?.attempt == 2)
        guard case .none = table.outcome(.notWritten, of: unwritten, attempt: 1) else { return #expect(Bool(false)) }
        #expect(table.count == 2)
    }

    @Test("the end of one route ends what was sent by it, and nothing else")
    func routes() throws {
        var table = table()
        let first = try begin(&table, "first")
        let second = try begin(&table, "second")
        _ = table.take(first, route: 1, now: start)
        _ = table.take(second, route: 2, now: start)
        #expect(table.repliesLost(route: 2) { _ in false }.ended.map(\.call) == ["second"])
        #expect(table.reply(to: first)?.call == "first")
    }

    // MARK: Bounds

    @Test("beyond the limit others wait for a place, as many as may, and get it in order")
    func waitsForPlace() throws {
        var table = Table(limit: 1, overflow: 2)
        let first = try begin(&table, "first")
        let second = try begin(&table, "second")
        let third = try begin(&table, "third")
        #expect(throws: Table.Refusal.overloaded(limit: 1)) { _ = try begin(&table, "fourth") }
        #expect(table.take(first, now: start) != nil)
        for id in [second, third] { table.enqueue(id) }
        #expect(table.isFull)
        #expect(!table.hasQueued)
        #expect(table.takeFirstQueued(now: start) == nil)
        #expect(table.reply(to: first) != nil)
        #expect(table.hasQueued)
        #expect(table.takeFirstQueued(now: start)?.call == "second")
        guard case .sendAgain = table.outcome(.notWritten, of: second, attempt: 1) else { return #expect(Bool(false)) }
        #expect(table.takeFirstQueued(now: start)?.call == "third")
    }

    @Test("while it drains nothing new comes in, and what is there ends as always")
    func drains() throws {
        var table = table()
        let id = try begin(&table, "a")
        _ = table.take(id, now: start)
        let ready = try begin(&table, "ready", kind: .readiness)
        #expect(table.drain().map(\.call) == ["ready"], "it will not come")
        #expect(table.remove(ready) == nil)
        #expect(throws: Table.Refusal.draining) { _ = try begin(&table, "b") }
        #expect(table.reply(to: id)?.call == "a")
    }
}

@Suite("What was written of a call")
struct WriteMarkTests {
    /// What each step says, one after another, on a new mark.
    func results(_ steps: (inout WriteMark) -> [Bool]) -> [Bool] {
        var mark = WriteMark.first
        return steps(&mark)
    }

    @Test("an attempt is written once, and only the current one")
    func attempts() {
        let steps = results { mark in
            [mark.write(1), mark.write(1), mark.begin(2), mark.write(1), mark.isWritten, mark.write(2), mark.isWritten]
        }
        #expect(steps == [true, false, true, false, false, true, true])
    }

    @Test("what was written cannot be withdrawn, and what was withdrawn cannot be written")
    func withdrawn() {
        let written = results { [$0.write(1), $0.withdraw()] }
        #expect(written == [true, false])
        let withdrawn = results { [$0.withdraw(), $0.write(1), $0.begin(2), $0.write(2)] }
        #expect(withdrawn == [true, false, true, true])
    }

    @Test("after the end nothing is written")
    func ended() {
        let steps = results { [$0.end(), $0.write(1), $0.withdraw(), $0.begin(2), $0.end()] }
        #expect(steps == [true, false, false, false, false])
    }

    @Test("it fits in a word and back")
    func word() {
        var mark = WriteMark.first
        _ = mark.begin(.max)
        for change in [{ (_: inout WriteMark) in }, { _ = $0.write(.max) }, { _ = $0.end() }] {
            change(&mark)
            let word = WriteMark.encodeAtomicRepresentation(mark)
            #expect(WriteMark.decodeAtomicRepresentation(word) == mark)
        }
    }
}
