import Testing

@testable import SupervisionObserver
@testable import rpc

@Suite("rpc top's screen")
struct TopScreenTests {
    private func row(_ name: String, rails: String, isSupervisor: Bool = false, restarts: Int = 0) -> TreeRow {
        TreeRow(
            key: "app/\(name)",
            name: name,
            depth: rails.count,
            rails: rails,
            kind: isSupervisor ? "one_for_one" : "Worker",
            isSupervisor: isSupervisor,
            status: "running",
            pid: "<0.7>",
            age: 12,
            restarts: restarts,
            lastExit: restarts > 0 ? "killed" : nil,
            abandoned: 0,
            startsIn: nil,
            isCoolingDown: false,
            window: nil,
            children: isSupervisor ? 2 : 0,
            below: isSupervisor ? 2 : 0,
            belowDown: 0,
            belowRestarts: 0,
            isOpen: isSupervisor,
            isMatch: false
        )
    }

    private func page(_ rows: [TreeRow], of count: Int? = nil) -> TreePage {
        TreePage(tree: 0, isRunning: true, rows: count ?? rows.count, offset: 0, matches: nil, page: rows)
    }

    private func overview(trees: [Int] = [0]) -> Overview {
        Overview(
            time: 0,
            processID: 7,
            host: "host",
            uptime: 3,
            lastEvent: 0,
            allowsActions: false,
            viewers: 1,
            trees: trees.map { id in
                TreeSummary(
                    id: id,
                    name: "app\(id)",
                    isRunning: true,
                    processes: 3,
                    supervisors: 1,
                    starting: 0,
                    stopping: 0,
                    restarting: 1,
                    stopped: 0,
                    restarts: 2,
                    abandoned: 0,
                    coolingDown: 0,
                    closest: nil,
                    mayPlayKillMatrix: false
                )
            },
            callers: [],
            receivers: [],
            pools: [],
            workers: WorkerTotals()
        )
    }

    private func screen(_ rows: [TreeRow], of count: Int? = nil) -> TopScreen {
        var screen = TopScreen()
        _ = screen.show(overview())
        screen.page = page(rows, of: count)
        screen.height = 3
        return screen
    }

    @Test(
        "the tree is drawn with its lines, and fits the terminal, however small",
        arguments: [
            (200, 30), (80, 24), (20, 8), (1, 1), (0, 0), (300, 3),
        ]
    )
    func fits(width: Int, height: Int) {
        let screen = screen([
            row("app", rails: "", isSupervisor: true), row("mailer", rails: "1", restarts: 2),
            row("writer", rails: "0"),
        ])
        let lines = screen.lines(width: width, height: height)
        #expect(lines.count == height)
        #expect(lines.allSatisfy { $0.text.count <= max(0, width) })
        if width == 200 {
            let text = lines.map(\.text).joined(separator: "\n")
            #expect(text.contains("▾app"))
            #expect(text.contains("├─ mailer"))
            #expect(text.contains("└─ writer"))
            #expect(text.contains("processes 3  down 1  restarts 2"))
            #expect(text.contains("killed"))
        }
    }

    @Test("what names and reasons contain does not steer the terminal")
    func hostile() {
        let screen = screen([
            row("app", rails: "", isSupervisor: true), row("a\u{1B}]0;owned\u{7}\u{9B}2J\u{202E}b", rails: "0"),
        ])
        let text = screen.lines(width: 200, height: 30).map(\.text).joined()
        #expect(text.contains(#"\u{1B}]0;owned"#))
        #expect(!text.unicodeScalars.contains { $0.properties.generalCategory == .control })
        #expect(!text.unicodeScalars.contains("\u{202E}"))
    }

    @Test("keys move the selection, and ask for other rows only at the edge")
    func moves() {
        var screen = screen((0..<3).map { row("w\($0)", rails: "1") }, of: 100)
        #expect(screen.handle(.down) == nil)
        #expect(screen.handle(.down) == nil)
        #expect(screen.selected == 2)
        #expect(screen.handle(.down) == .load)
        #expect(screen.request.offset == 1)
        #expect(screen.handle(.end) == .load)
        #expect(screen.request.offset == 97)
        #expect(screen.handle(.character("g")) == .load)
        #expect(screen.request.offset == 0)
        #expect(screen.handle(.up) == nil)
        #expect(screen.handle(.pageDown) == nil)
        #expect(screen.handle(.pageDown) == .load)
    }

    @Test("supervisors open and close, and workers do not")
    func toggles() {
        var screen = screen([row("app", rails: "", isSupervisor: true), row("w", rails: "0")])
        #expect(screen.handle(.right) == nil)
        #expect(screen.handle(.left) == .load)
        #expect(screen.request.toggled == ["app/app"])
        #expect(screen.handle(.enter) == .load)
        #expect(screen.request.toggled == [])
        #expect(screen.handle(.down) == nil)
        #expect(screen.handle(.enter) == nil)
    }

    @Test("a search is typed, kept and cleared, and its letters are no commands")
    func search() {
        var screen = screen([row("app", rails: "", isSupervisor: true)])
        #expect(screen.handle(.character("/")) == nil)
        for character in "quit" { #expect(screen.handle(.character(character)) == .load) }
        #expect(screen.handle(.backspace) == .load)
        #expect(screen.request.query == "qui")
        #expect(screen.handle(.enter) == nil)
        #expect(screen.request.query == "qui")
        #expect(screen.handle(.escape) == .load)
        #expect(screen.request.query == "")
        #expect(screen.handle(.character("q")) == .quit)
    }

    @Test("the views change, the trees take turns, and a pause holds what is shown")
    func views() {
        var screen = TopScreen()
        _ = screen.show(overview(trees: [0, 2]))
        _ = screen.handle(.character("c"))
        #expect(screen.view == .calls)
        _ = screen.handle(.escape)
        #expect(screen.view == .tree)
        #expect(screen.handle(.character("n")) == .load)
        #expect(screen.request.tree == 2)
        #expect(screen.handle(.character("n")) == .load)
        #expect(screen.request.tree == 0)
        _ = screen.handle(.character("p"))
        let isShownWhilePaused = screen.show(overview(trees: [5]))
        #expect(!isShownWhilePaused)
        #expect(screen.overview?.trees.map(\.id) == [0, 2])
        _ = screen.handle(.character("p"))
        let isShownAfterwards = screen.show(overview(trees: [5]))
        #expect(isShownAfterwards)
        #expect(screen.request.tree == 5)
    }

    @Test("numbers whose sum is none are shown: whoever answers may say anything")
    func sums() {
        var overview = overview(trees: [0, 2])
        for index in overview.trees.indices {
            overview.trees[index].processes = .max
            overview.trees[index].restarts = .min
            overview.trees[index].stopped = .max
            overview.trees[index].abandoned = .min
        }
        let rate = RateSummary(
            total: .min,
            rate: -1e308,
            p99: -1e308,
            longest: .greatestFiniteMagnitude,
            outcomes: ["ok": .max, "a": .max, "b": .max]
        )
        let caller = CallerSummary(
            id: 0,
            service: "s",
            state: "ready",
            inFlight: .max,
            calls: rate,
            perSecond: [.max, .min]
        )
        overview.callers = [caller, caller]
        #expect(TopScreen.summary(overview).contains("processes \(Int.max)"))
    }

    @Test("workers are shown with what became of their messages, and long lists scroll")
    func workers() {
        var screen = TopScreen()
        var overview = overview()
        overview.workers.workers = 30
        overview.workers.parked = 2
        _ = screen.show(overview)
        screen.height = 5
        screen.workers = WorkersPage(
            workers: 30,
            matches: 30,
            offset: 0,
            page: (0..<30).map { number in
                WorkerSummary(
                    tree: 0,
                    key: "shop/w\(number)",
                    path: "shop/w\(number)",
                    pid: "<0.9>",
                    queues: [
                        .init(name: "orders", failed: "orders.failed", isConsuming: true, backlog: 4, keptAsFailed: 2)
                    ],
                    state: "working",
                    running: 1,
                    concurrency: 10,
                    unsettled: 3,
                    prefetch: 20,
                    zombies: 0,
                    rate: 12,
                    handled: 1234,
                    failed: 5,
                    retried: 3,
                    parked: 2,
                    others: []
                )
            }
        )
        #expect(screen.handle(.character("w")) == nil)
        var text = screen.lines(width: 220, height: 12).map(\.text).joined(separator: "\n")
        for part in [
            "workers 30", "parked 2", "shop/w0", "1/10", "3/20", "12/s", "1234", "orders 4 waiting, 2 in orders.failed",
        ] {
            #expect(text.contains(part), "\(part)")
        }
        #expect(!text.contains("shop/w29"))
        #expect(screen.handle(.end) == nil)
        text = screen.lines(width: 220, height: 12).map(\.text).joined(separator: "\n")
        #expect(text.contains("shop/w29") && !text.contains("shop/w0 "))
        #expect(screen.handle(.character("t")) == nil)
        #expect(screen.scrolled == 0)
    }

    @Test(
        "keys are read out of any pieces of what a terminal sends",
        arguments: [
            ("q", [TopScreen.Key.character("q")]),
            ("\u{1B}[A\u{1B}[B\u{1B}[5~x", [.up, .down, .pageUp, .character("x")]),
            ("\u{1B}OC", [.right]), ("\u{1B}", [.escape]), ("\r\u{7F}", [.enter, .backspace]),
            ("ü✓", [.character("ü"), .character("✓")]),
            ("\u{1B}[99;99Zq", [.character("q")]), ("\u{1B}\u{1B}[A", [.escape, .up]),
        ]
    )
    func keys(text: String, keys: [TopScreen.Key]) {
        var reader = KeyReader()
        #expect(reader.take(Array(text.utf8)) == keys)
        var pieces = KeyReader()
        var read: [TopScreen.Key] = []
        let bytes = Array(text.utf8)
        for (index, byte) in bytes.enumerated() {
            read += pieces.take([byte], isComplete: index == bytes.count - 1)
        }
        #expect(read == keys)
    }

    @Test(
        "numbers of any size are shown",
        arguments: [
            Double.nan, .infinity, -1, 0, 1e-9, 3, 99.96, 12_345, 1e300, -1e300, -.infinity, -0.0, 1e-320, -1e15,
        ]
    )
    func numbers(value: Double) {
        for text in [TopScreen.number(value), TopScreen.time(value), TopScreen.milliseconds(value)] {
            #expect(!text.isEmpty)
        }
    }
}
