import RPCWire
import Supervision
import Testing

@testable import RPCCaller

@Suite("The pending table")
struct PendingTableTests {
    typealias Table = PendingTable<String>

    let start = ContinuousClock.now

    func table(limit: Int = 10) -> Table { Table(limit: limit) }

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
        guard case .none = table.outcome(.confirmed, of: id) else { return #expect(Bool(false)) }
    }

    @Test(
        "a call ends when its message is known not to be answered",
        arguments: [Table.Outcome.nacked, .returned, .unknown, .refused]
    )
    func endsByOutcome(_ outcome: Table.Outcome) throws {
        var table = table()
        let id = try begin(&table, "a")
        _ = table.take(id, now: start)
        guard case .ended("a") = table.outcome(outcome, of: id) else { return #expect(Bool(false)) }
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
        guard case .none = table.outcome(outcome, of: id) else { return #expect(Bool(false)) }
        #expect(table.reply(to: id)?.call == "a")
    }

    @Test("a cast ends with its confirm, and no reply ends it")
    func cast() throws {
        var table = table()
        let id = try begin(&table, "a", kind: .cast)
        _ = table.take(id, now: start)
        #expect(table.reply(to: id) == nil)
        guard case .ended("a") = table.outcome(.confirmed, of: id) else { return #expect(Bool(false)) }
    }

    @Test("an unwritten message is sent again, and each submission has its own outcome")
    func sendsAgain() throws {
        var table = table()
        let id = try begin(&table, "a")
        #expect(table.take(id, now: start) != nil)
        #expect(table.take(id, now: start) == nil, "it is on its way already")
        guard case .sendAgain(attempts: 1) = table.outcome(.notWritten, of: id) else { return #expect(Bool(false)) }
        guard case .none = table.outcome(.unknown, of: id) else { return #expect(Bool(false), "nothing is on its way") }
        table.lineUp(id)
        #expect(table.takeFirstInLine(now: start + .seconds(1))?.remaining == .seconds(4))
        guard case .sendAgain(attempts: 2) = table.outcome(.notWritten, of: id) else { return #expect(Bool(false)) }
    }

    @Test("what is cancelled while its message is on its way ends once, and is not sent again")
    func cancelledOnItsWay() throws {
        var table = table()
        let id = try begin(&table, "a")
        _ = table.take(id, now: start)
        #expect(table.remove(id)?.wasSubmitted == true)
        guard case .none = table.outcome(.notWritten, of: id) else { return #expect(Bool(false)) }
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
        table.lineUp(waiting)
        #expect(table.replyQueueLost().map(\.call) == ["sent"])
        #expect(table.takeFirstInLine(now: start)?.call == "waiting")
        #expect(table.count == 2)
    }

    @Test("deadlines end what is due, in order, and say whether it had been sent")
    func expires() throws {
        var table = table()
        let late = try begin(&table, "late", after: .seconds(3))
        _ = try begin(&table, "second", after: .seconds(2))
        let first = try begin(&table, "first", after: .seconds(1))
        _ = table.take(first, now: start)
        #expect(table.earliestDeadline == start + .seconds(1))
        #expect(table.expire(at: start + .milliseconds(999)).isEmpty)
        let expired = table.expire(at: start + .seconds(2))
        #expect(expired.map(\.call) == ["first", "second"])
        #expect(expired.map(\.wasSubmitted) == [true, false])
        #expect(table.remove(late) != nil)
        #expect(table.expire(at: start + .seconds(9)).isEmpty)
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

    @Test("its end ends everything, and takes nothing in with the first reason")
    func closes() throws {
        var table = table()
        let id = try begin(&table, "a")
        _ = try begin(&table, "b")
        _ = table.take(id, now: start)
        #expect(Set(table.close(.killed).map(\.call)) == ["a", "b"])
        #expect(table.close(.shutdown()).isEmpty)
        do {
            _ = try begin(&table, "c")
            Issue.record("taken in")
        } catch Table.Refusal.closed(.killed) {
        }
        #expect(table.reply(to: id) == nil)
    }

    @Test("a line is served in order")
    func line() throws {
        var table = table()
        for name in ["a", "b", "c"] { table.lineUp(try begin(&table, name)) }
        #expect(table.takeFirstInLine(now: start)?.call == "a")
        #expect(table.takeFirstInLine(now: start)?.call == "b")
        #expect(table.takeFirstInLine(now: start)?.call == "c")
        #expect(table.takeFirstInLine(now: start) == nil)
        #expect(!table.hasLine)
    }

    @Test("ten thousand calls with a long deadline leave no trace when they end")
    func leavesNothing() throws {
        var table = table(limit: 100)
        for _ in 0..<10_000 {
            let id = try begin(&table, "a", after: .seconds(3600))
            _ = table.reply(to: id)
            let other = try begin(&table, "b", after: .seconds(3600))
            table.lineUp(other)
            _ = table.remove(other)
        }
        #expect(table.count == 0)
        #expect(table.remembered < 200)
    }
}
