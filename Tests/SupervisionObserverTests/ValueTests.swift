import Testing

@testable import Supervision
@testable import SupervisionObserver

@Suite("The observer's values")
struct ValueTests {
    private actor Plain {}

    private func tree() async throws -> Supervisor {
        let supervisor = Supervisor("app", intensity: .init(100, within: .seconds(5))) {
            Supervisor("inner") {
                Child("Alpha") { _ in Plain() }
                Child("beta") { _ in Plain() }
            }
            DynamicSupervisor("sessions")
            Child("last") { _ in Plain() }
        }
        try await supervisor.start()
        return supervisor
    }

    private func view(_ supervisor: Supervisor) throws -> TreeView {
        TreeView(snapshot: try #require(supervisor.snapshot()), shown: .text)
    }

    @Test("rows are those that are open, with their lines to siblings, and only the page that is asked for")
    func rows() async throws {
        let supervisor = try await tree()
        let view = try view(supervisor)
        let all = view.page(TreeRequest(tree: 0))
        #expect(all.page.map(\.name) == ["app", "inner", "Alpha", "beta", "sessions", "last"])
        #expect(all.page.map(\.rails) == ["", "1", "11", "10", "1", "0"])
        #expect(all.rows == 6)
        let part = view.page(TreeRequest(tree: 0, offset: 2, limit: 2))
        #expect(part.page.map(\.name) == ["Alpha", "beta"])
        #expect(part.rows == 6)
        let closed = view.page(TreeRequest(tree: 0, toggled: ["app/inner"]))
        #expect(closed.page.map(\.name) == ["app", "inner", "sessions", "last"])
        #expect(closed.page[1].below == 2)
        #expect(view.page(TreeRequest(tree: 0, toggled: ["app"])).page.map(\.name) == ["app"])
        await supervisor.stop()
    }

    @Test("a count's rate is that of the last ten looks, and one that begins anew loses nothing")
    func countRate() {
        var rate = CountRate()
        let start = ContinuousClock.now
        #expect(rate.perSecond == 0)
        #expect(rate.record(1000, at: start) == 0)
        #expect(rate.perSecond == 0)
        for second in 1...30 { _ = rate.record(1000 + 5 * second, at: start + .seconds(second)) }
        #expect(rate.perSecond == 5)
        #expect(rate.history == Array(repeating: 5, count: 30))
        // Another incarnation counts from nothing.
        #expect(rate.record(20, at: start + .seconds(31)) == 20)
        #expect(rate.perSecond == 6.5)
        for second in 32...200 { _ = rate.record(20, at: start + .seconds(second)) }
        #expect(rate.perSecond == 0)
        #expect(rate.history.count == CountRate.secondsKept)
    }

    @Test(
        "no question, however odd, gives more than a page or breaks it",
        arguments: [
            (-5, -5, 0), (Int.max, Int.max, 0), (0, Int.max, 6), (Int.min, 3, 3), (6, 10, 0), (5, 10, 1),
        ]
    )
    func oddPages(offset: Int, limit: Int, rows: Int) async throws {
        let supervisor = try await tree()
        let page = try view(supervisor).page(TreeRequest(tree: 0, offset: offset, limit: limit))
        #expect(page.page.count == rows)
        await supervisor.stop()
    }

    @Test("a search finds by name, type, state and pid in any case, and shows what is above it")
    func search() async throws {
        let supervisor = try await tree()
        let view = try view(supervisor)
        let found = view.page(TreeRequest(tree: 0, query: "ALPHA"))
        #expect(found.page.map(\.name) == ["app", "inner", "Alpha"])
        #expect(found.page.map(\.isMatch) == [false, false, true])
        #expect(found.matches == 1)
        #expect(view.page(TreeRequest(tree: 0, query: "plain")).matches == 3)
        #expect(view.page(TreeRequest(tree: 0, query: "plain beta")).matches == 1)
        #expect(view.page(TreeRequest(tree: 0, query: "running")).matches == 6)
        #expect(view.page(TreeRequest(tree: 0, query: "dynamic")).matches == 1)
        let pid = try #require(found.page.last?.pid)
        #expect(view.page(TreeRequest(tree: 0, query: pid)).page.last?.name == "Alpha")
        #expect(view.page(TreeRequest(tree: 0, query: "nothing of that kind")).page.isEmpty)
        #expect(view.page(TreeRequest(tree: 0, query: "   ")).matches == nil)
        #expect(view.page(TreeRequest(tree: 0, query: String(repeating: "ü ", count: 10_000))).rows == 0)
        await supervisor.stop()
    }

    @Test("a supervisor with very many children is closed at first, and says what is below it")
    func many() async throws {
        let supervisor = try await tree()
        let sessions = try supervisor.dynamicSupervisor("sessions")
        for _ in 0...TreeView.openLimit { let _: Pid? = try await sessions.startChild(Child("s") { _ in Plain() }) }
        let view = try view(supervisor)
        let page = view.page(TreeRequest(tree: 0))
        #expect(page.rows == 6)
        #expect(page.page[4].children == TreeView.openLimit + 1)
        #expect(!page.page[4].isOpen)
        let open = view.page(TreeRequest(tree: 0, toggled: ["app/sessions"]))
        #expect(open.rows == 6 + TreeView.openLimit + 1)
        #expect(open.page.count == 100)
        let summary = view.summary(id: 0, name: "app", mayPlayKillMatrix: false)
        #expect(summary.processes == 6 + TreeView.openLimit + 1)
        #expect(summary.supervisors == 3)
        await supervisor.stop()
    }

    @Test("a summary names the supervisor that is closest to giving up")
    func closest() async throws {
        let supervisor = Supervisor("app", intensity: .init(10, within: .seconds(60))) {
            Child("a") { _ in Plain() }
            Supervisor("tight", intensity: .init(2, within: .seconds(60))) { Child("b") { _ in Plain() } }
        }
        try await supervisor.start()
        try supervisor.child("a", as: Plain.self).pid?.kill()
        _ = await supervisor.testing.settled()
        try supervisor.child("tight", "b", as: Plain.self).pid?.kill()
        _ = await supervisor.testing.settled()
        let closest = try view(supervisor).summary(id: 0, name: "app", mayPlayKillMatrix: false).closest
        #expect(closest?.path == "app/tight")
        #expect(closest?.used == 1)
        #expect(closest?.allowed == 2)
        await supervisor.stop()
    }

    // MARK: The time line

    private func event(_ path: String, _ kind: SupervisionEvent.Kind, pid: Pid? = nil) -> SupervisionEvent {
        SupervisionEvent(path: path, pid: pid, kind: kind)
    }

    @Test("the time line keeps the newest, numbers them, and finds those of a process and what is below it")
    func timeLine() {
        var timeLine = TimeLine()
        for number in 0..<(TimeLine.maximumEvents + 10) {
            let path = number % 2 == 0 ? "app/a" : "app/ab/c"
            _ = timeLine.add(event(path, .started), tree: 0, key: path, time: Int64(number), shown: .text)
        }
        let all = timeLine.page(limit: .max)
        #expect(all.events.count == TimeLine.maximumEvents)
        #expect(all.oldest == 11)
        #expect(all.events.last?.number == UInt64(TimeLine.maximumEvents + 10))
        #expect(timeLine.page(key: "app/a", limit: 5).events.allSatisfy { $0.path == "app/a" })
        #expect(timeLine.page(key: "app/ab", limit: 5).events.map(\.path) == Array(repeating: "app/ab/c", count: 5))
        #expect(timeLine.page(key: "app", limit: 7).events.count == 7)
        #expect(timeLine.page(tree: 1, limit: 5).events.isEmpty)
        #expect(timeLine.page(after: UInt64(TimeLine.maximumEvents + 8), limit: 100).events.count == 2)
    }

    @Test(
        "the history of a process has its incarnations, the newest first, and begins anew for another child in its place"
    )
    func history() async throws {
        let supervisor = try await tree()
        let nodes = try #require(supervisor.snapshot()?.nodes)
        let pids = nodes.compactMap(\.pid)
        var timeLine = TimeLine()
        func add(_ kind: SupervisionEvent.Kind, _ pid: Pid?, _ time: Int64) {
            _ = timeLine.add(event("app/a", kind, pid: pid), tree: 0, key: "app/a", time: time, shown: .text)
        }
        add(.started, pids[0], 1)
        add(.exited(.killed, expected: false), pids[0], 2)
        add(.restarting(after: .zero), pids[0], 3)
        add(.started, pids[1], 4)
        var history = timeLine.history(tree: 0, key: "app/a")
        #expect(history.map(\.pid) == ["\(pids[1])", "\(pids[0])"])
        #expect(history[1].reason == "killed")
        #expect(history[1].ended == 2)
        #expect(history[0].ended == nil)
        add(.exited(.normal, expected: true), pids[1], 5)
        add(.started, pids[2], 6)
        history = timeLine.history(tree: 0, key: "app/a")
        #expect(history.map(\.pid) == ["\(pids[2])"])
        for number in 0..<100 {
            add(.exited(.killed, expected: false), pids[number % pids.count], 7)
            add(.restarting(after: .zero), nil, 7)
        }
        #expect(timeLine.history(tree: 0, key: "app/a").count <= TimeLine.maximumIncarnations)
        await supervisor.stop()
    }

    @Test("very many processes fill no memory of the time line")
    func manyPlaces() async throws {
        let supervisor = try await tree()
        let pid = try #require(supervisor.pid)
        var timeLine = TimeLine()
        for number in 0..<5000 {
            _ = timeLine.add(event("p\(number)", .started, pid: pid), tree: 0, key: "p\(number)", time: 0, shown: .text)
        }
        #expect(timeLine.history(tree: 0, key: "p0").isEmpty)
        #expect(timeLine.history(tree: 0, key: "p4999").count == 1)
        await supervisor.stop()
    }

    // MARK: The queue of a viewer

    @Test("a viewer that does not read has a bounded queue, loses the oldest events and is told how many")
    func queue() {
        var queue = ViewerQueue<Int>(limit: 3)
        for number in 1...10 { queue.append(number) }
        queue.replace(100)
        queue.replace(101)
        var taken = queue.takeAll()
        #expect(taken.messages == [8, 9, 10, 101])
        #expect(taken.dropped == 7)
        #expect(queue.isEmpty)
        queue.append(11)
        taken = queue.takeAll()
        #expect(taken.messages == [11])
        #expect(taken.dropped == nil)
    }

    // MARK: Text

    @Test(
        "the passwords of URIs are not shown, whatever is around them",
        arguments: [
            ("amqp://user:secret@host/v", "amqp://…@host/v"),
            (
                "cannot connect to amqps://guest:p@ss@10.0.0.1:5671, amqp://a:b@c",
                "cannot connect to amqps://…@10.0.0.1:5671, amqp://…@c"
            ),
            ("http://host/path@2", "http://host/path@2"),
            ("mail me@home.example", "mail me@home.example"),
            ("://:@", "://…@"),
            ("x://a:b@", "x://…@"),
        ]
    )
    func passwords(text: String, shown: String) {
        #expect(DisplayText.line(text) == shown)
    }

    @Test("text is one line of limited length, and cannot turn what is around it")
    func text() {
        #expect(DisplayText.line("a\nb\u{202E}c\u{0}d\u{1B}[31m") == "a b c d [31m")
        #expect(DisplayText.line(String(repeating: "ä", count: 1000)).count == DisplayText.maximumLength + 1)
        #expect(DisplayText.line("e\u{301}") == "e\u{301}")
    }

    private struct Leak: Error, CustomStringConvertible {
        var description: String { "a message said: secret" }
    }

    @Test("where errors may hold what users sent, only their types are shown")
    func types() {
        #expect(ShownErrors.type.text(.crashed(Leak())) == "crashed: Leak")
        #expect(ShownErrors.type.text(.shutdown(cause: Leak())) == "shutdown: Leak")
        #expect(ShownErrors.type.text(.killed) == "killed")
        #expect(ShownErrors.text.text(.crashed(Leak())) == "crashed: a message said: secret")
    }

    // MARK: What an actor says about itself

    @Test("what an actor shows of its state is bounded, the summary first")
    func stateReport() {
        let fields = (0..<50).map { StateReport.Field(name: "\($0)", value: "a\nb") }
        var report = StateReport(String(repeating: "x", count: 10_000))
        report.fields = fields
        let lines = Observation.lines(report)
        #expect(lines.count == 32)
        #expect(lines.first?.name == "state")
        #expect(lines.first?.value.count == 201)
        #expect(lines.last == ProcessPage.Line(name: "30", value: "a b"))
        #expect(Observation.lines(StateReport("", ["a": "1"])) == [ProcessPage.Line(name: "a", value: "1")])
    }
}
