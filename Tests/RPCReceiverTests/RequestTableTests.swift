import Testing

@testable import RPCReceiver

@Suite("The table of requests")
struct RequestTableTests {
    typealias Table = RequestTable<String, Int>

    let start = ContinuousClock.now

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
        let next = table.startNext()
        let first = try #require(next)
        #expect(table.startNext()?.1 == "b")
        #expect(table.startNext() == nil)
        #expect(table.finish(first.0) == "a")
        #expect(table.startNext()?.1 == "c")
        #expect(table.count == 2)
    }

    @Test("a request is answered once, by its end or by its deadline")
    func once() throws {
        var table = Table(concurrency: 1)
        let key = try accept(&table, "a", after: .seconds(1))
        _ = table.startNext()
        #expect(table.expire(at: start + .seconds(1)).map(\.job) == ["a"])
        #expect(table.finish(key) == nil)
        #expect(table.runningCount == 0)
        #expect(table.count == 0)
    }

    @Test("a request that waits for a place expires too")
    func expiresInLine() throws {
        var table = Table(concurrency: 1)
        _ = try accept(&table, "a")
        _ = table.startNext()
        _ = try accept(&table, "b", after: .seconds(1))
        #expect(table.expire(at: start + .seconds(2)).map(\.job) == ["b"])
        #expect(table.startNext() == nil)
    }

    @Test("the requests of a closed channel are given up, the others go on")
    func channelClosed() throws {
        var table = Table(concurrency: 1)
        let gone = try accept(&table, "gone", from: 1)
        _ = table.startNext()
        let stays = try accept(&table, "stays", from: 2)
        #expect(table.closed(1) == [gone])
        #expect(table.finish(gone) == nil)
        #expect(table.startNext()?.1 == "stays")
        #expect(table.finish(stays) == "stays")
    }

    @Test("after its end it takes nothing on")
    func closes() throws {
        var table = Table(concurrency: 1)
        let key = try accept(&table, "a")
        #expect(table.close() == [key])
        #expect(table.accept("b", from: 1, deadline: start) == nil)
        #expect(table.finish(key) == nil)
    }
}
