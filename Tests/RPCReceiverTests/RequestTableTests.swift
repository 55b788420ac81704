import Testing

@testable import RPCReceiver

@Suite("The table of requests")
struct RequestTableTests {
    typealias Table = RequestTable<String, Int>

    let start = Moment.now

    func accept(_ table: inout Table, _ job: String, from channel: Int = 1, after: Duration = .seconds(5)) throws
        -> Table.Key
    {
        let key = table.accept(job, from: channel, deadline: start + after)
        return try #require(key)
    }

    @Test("no more run than may; the next starts when one ends")
    func concurrency() throws {
        var table = Table(concurrency: 2)
        for job in ["a", "b", "c"] { _ = try accept(&table, job) }
        let next = table.startNext(at: start)
        let first = try #require(next)
        #expect(table.startNext(at: start)?.1 == "b")
        #expect(table.startNext(at: start) == nil)
        #expect(table.finish(first.0) == "a")
        #expect(table.startNext(at: start)?.1 == "c")
        #expect(table.count == 2)
    }

    @Test("a request is answered once, by its end or by its deadline")
    func once() throws {
        var table = Table(concurrency: 1)
        let key = try accept(&table, "a", after: .seconds(1))
        _ = table.startNext(at: start)
        #expect(table.expire(at: start + .seconds(1)).map(\.job) == ["a"])
        #expect(table.finish(key) == nil)
        #expect(table.runningCount == 0)
        #expect(table.count == 0)
    }

    @Test("a request that waits for a place expires too")
    func expiresInLine() throws {
        var table = Table(concurrency: 1)
        _ = try accept(&table, "a")
        _ = table.startNext(at: start)
        _ = try accept(&table, "b", after: .seconds(1))
        #expect(table.expire(at: start + .seconds(2)).map(\.job) == ["b"])
        #expect(table.startNext(at: start) == nil)
    }

    @Test("the requests of a closed channel are given up, the others go on")
    func channelClosed() throws {
        var table = Table(concurrency: 1)
        let gone = try accept(&table, "gone", from: 1)
        _ = table.startNext(at: start)
        let stays = try accept(&table, "stays", from: 2)
        #expect(table.closed(1).map(\.key) == [gone])
        #expect(table.zombieCount == 1, "its handler still runs")
        #expect(table.finish(gone) == nil)
        #expect(table.startNext(at: start)?.1 == "stays")
        #expect(table.finish(stays) == "stays")
    }

    @Test("tells whether a request that was started is still wanted, for a task that is made after the decision")
    func startedAndGivenUp() throws {
        var table = Table(concurrency: 2)
        let gone = try accept(&table, "gone", from: 1)
        let stays = try accept(&table, "stays", from: 2)
        #expect(!table.isRunning(gone))
        _ = table.startNext(at: start)
        _ = table.startNext(at: start)
        _ = table.closed(1)
        #expect([table.isRunning(gone), table.isZombie(gone)] == [false, true])
        #expect([table.isRunning(stays), table.isZombie(stays)] == [true, false])
        for key in [gone, stays] {
            _ = table.finish(key)
            #expect([table.isRunning(key), table.isZombie(key)] == [false, false])
        }
    }

    @Test("after its end it takes nothing on")
    func closes() throws {
        var table = Table(concurrency: 1)
        let key = try accept(&table, "a")
        #expect(table.close() == [key])
        #expect(table.accept("b", from: 1, deadline: start) == nil)
        #expect(table.finish(key) == nil)
    }

    @Test("a handler whose request was given up is a zombie until it ends")
    func zombies() throws {
        var table = Table(concurrency: 1)
        let key = try accept(&table, "a", after: .seconds(1))
        _ = table.startNext(at: start)
        #expect(table.zombieCount == 0)
        let expired = table.expire(at: start + .seconds(1))
        #expect(expired.map(\.hadBegun) == [true])
        #expect(table.zombieCount == 1)
        #expect(table.finish(key) == nil)
        #expect(table.zombieCount == 0)
        _ = try accept(&table, "b", after: .seconds(1))
        #expect(table.expire(at: start + .seconds(1)).map(\.hadBegun) == [false])
        #expect(table.zombieCount == 0, "it never ran")
    }

    @Test("a request whose deadline has passed is not started any more")
    func notStartedLate() throws {
        var table = Table(concurrency: 1)
        _ = try accept(&table, "late", after: .seconds(1))
        _ = try accept(&table, "good", after: .seconds(5))
        #expect(table.startNext(at: start + .seconds(2))?.1 == "good")
        #expect(table.expire(at: start + .seconds(2)).map(\.job) == ["late"])
        #expect(table.waitingCount == 0)
    }

    @Test("a request that follows another gives its place back, and goes on when it has one again")
    func follows() throws {
        var table = Table(concurrency: 2)
        let first = try accept(&table, "first")
        let second = try accept(&table, "second")
        let third = try accept(&table, "third")
        #expect(table.startNext(at: start)?.job == "first")
        #expect(table.startNext(at: start)?.isResumed == false)
        table.follow(second)
        #expect(table.startNext(at: start)?.job == "third")
        #expect(table.count(of: 1) == 3)
        table.enqueue(second)
        #expect(table.startNext(at: start) == nil, "there is no place")
        #expect(table.finish(first) == "first")
        let resumed = table.startNext(at: start)
        #expect(resumed?.job == "second")
        #expect(resumed?.isResumed == true)
        #expect(table.finish(second) == "second")
        #expect(table.finish(third) == "third")
        #expect([table.count, table.runningCount, table.waitingCount] == [0, 0, 0])
    }

    @Test("one that is given up while it follows leaves no zombie, and has begun")
    func followsTooLong() throws {
        var table = Table(concurrency: 2)
        let key = try accept(&table, "a", after: .seconds(1))
        _ = table.startNext(at: start)
        table.follow(key)
        #expect(table.expire(at: start + .seconds(1)).map(\.hadBegun) == [true])
        table.enqueue(key)
        #expect(table.startNext(at: start) == nil)
        #expect([table.zombieCount, table.runningCount, table.count] == [0, 0, 0])
    }
}
