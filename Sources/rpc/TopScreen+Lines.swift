import AMQPPool
import RPCWire
import SupervisionObserver

/// The style of a line.
enum TopStyle: Sendable, Equatable {
    case plain, title, soft, good, warning, bad, selected
}

struct TopLine: Sendable, Equatable {
    var text: String
    var style: TopStyle

    init(_ text: String, _ style: TopStyle = .plain) {
        self.text = text
        self.style = style
    }
}

extension TopScreen {
    /// The number of lines above and below the list.
    static let frame = 7

    /// Exactly `height` lines, none wider than `width`.
    func lines(width: Int, height: Int) -> [TopLine] {
        var lines = header + [TopLine("")]
        let room = max(0, height - lines.count - 1)
        let all = bodyLines
        // The content may have become shorter.
        let above = view == .tree ? 0 : min(scrolled, max(0, all.count - room))
        var body = Array(all.dropFirst(above).prefix(room))
        body += Array(repeating: TopLine(""), count: room - body.count)
        lines += body
        lines.append(footer)
        // Names and reasons may come from outside: keys of processes, errors of others.
        return lines.prefix(max(0, height)).map { TopLine(Self.cut($0.text.escaped, width), $0.style) }
    }

    /// All lines below the header.
    var bodyLines: [TopLine] {
        switch view {
        case .tree: treeLines
        case .calls: callLines
        case .workers: workerLines
        case .events: eventLines
        case .help: Self.help.map { TopLine($0) }
        }
    }

    static func cut(_ text: String, _ width: Int) -> String {
        text.count <= width ? text : String(text.prefix(max(0, width - 1))) + "…"
    }

    static func padded(_ text: String, _ width: Int) -> String {
        text.count >= width ? cut(text, width) : text + String(repeating: " ", count: width - text.count)
    }

    static func right(_ text: String, _ width: Int) -> String {
        text.count >= width ? cut(text, width) : String(repeating: " ", count: width - text.count) + text
    }

    // MARK: The header

    private var header: [TopLine] {
        guard let overview else { return [TopLine("rpc top: \(problem ?? "connecting...")", .warning)] }
        var lines = [
            TopLine(
                "\(overview.host)  process \(overview.processID)  up \(Self.time(overview.uptime))"
                    + (isPaused ? "  PAUSED" : "") + (problem.map { "  \($0)" } ?? ""),
                problem == nil ? .title : .bad
            )
        ]
        lines.append(TopLine(Self.summary(overview)))
        if let closest = overview.trees.compactMap(\.closest).max(by: { Self.part($0) < Self.part($1) }) {
            let end = closest.whenExceeded == "cooldown" ? "cools down" : "gives up"
            lines.append(
                TopLine(
                    "\(closest.path): \(closest.used) of \(closest.allowed) restarts in \(Self.time(closest.period)), then it \(end)",
                    closest.used >= closest.allowed ? .bad : .warning
                )
            )
        } else {
            lines.append(TopLine("no supervisor is near its restart intensity", .soft))
        }
        return lines
    }

    private static func part(_ window: WindowSummary) -> Double { Double(window.used) / Double(max(1, window.allowed)) }

    /// A summary in one line, also for readers of a pipe.
    static func summary(_ overview: Overview) -> String {
        let trees = overview.trees
        let down = sum(trees.flatMap { [$0.restarting, $0.stopped, $0.starting, $0.stopping] })
        var parts = [
            "processes \(sum(trees.map(\.processes)))", "down \(down)",
            "restarts \(sum(trees.map(\.restarts)))", "zombies \(sum(trees.map(\.abandoned)))",
        ]
        if !overview.callers.isEmpty {
            parts.append(rates("calls", overview.callers.compactMap(\.calls)))
            parts.append("in flight \(sum(overview.callers.map(\.inFlight)))")
        }
        if !overview.receivers.isEmpty { parts.append(rates("requests", overview.receivers.compactMap(\.requests))) }
        let workers = overview.workers
        if workers.workers > 0 {
            parts.append("workers \(workers.workers) handled \(number(workers.rate))/s")
            if workers.paused > 0 { parts.append("paused \(workers.paused)") }
            if workers.failed > 0 { parts.append("failed \(workers.failed)") }
            if workers.parked > 0 { parts.append("parked \(workers.parked)") }
        }
        return parts.joined(separator: "  ")
    }

    private static func rates(_ name: String, _ rates: [RateSummary]) -> String {
        let rate = rates.reduce(0) { $0 + $1.rate }
        let failed = sum(rates.flatMap { $0.outcomes.filter { $0.key != "ok" }.values })
        let p99 = rates.compactMap(\.p99).max()
        return "\(name) \(number(rate))/s" + (p99.map { " p99 \(milliseconds($0))" } ?? "")
            + (failed > 0 ? " failed \(failed)" : "")
    }

    /// Adds numbers reported by another process, which may be any.
    private static func sum(_ numbers: [Int]) -> Int {
        numbers.reduce(0) { sum, number in
            let (result, overflow) = sum.addingReportingOverflow(number)
            return overflow ? (number < 0 ? .min : .max) : result
        }
    }

    static func number(_ value: Double) -> String {
        guard value.isFinite, abs(value) < 1e15 else { return "-" }
        if value >= 10 { return "\(Int(value.rounded()))" }
        let tenths = Int((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10)"
    }

    static func milliseconds(_ value: Double) -> String {
        guard value.isFinite, abs(value) < 1e15 else { return "-" }
        if value < 1 { return "\(Int((value * 1000).rounded())) µs" }
        return value < 10_000 ? "\(number(value)) ms" : "\(number(value / 1000)) s"
    }

    static func time(_ seconds: Double) -> String {
        guard seconds.isFinite, abs(seconds) < 1e12 else { return "-" }
        switch seconds {
        case ..<10: return "\(number(max(0, seconds))) s"
        case ..<90: return "\(Int(seconds)) s"
        case ..<5400: return "\(Int(seconds / 60)) min"
        case ..<172_800: return "\(Int(seconds / 3600)) h"
        default: return "\(Int(seconds / 86_400)) d"
        }
    }

    // MARK: The tree

    private var treeLines: [TopLine] {
        let name = overview?.trees.first { $0.id == tree }?.name ?? ""
        let found = page?.matches.map { ", \($0) match" } ?? ""
        let title =
            Self.padded("TREE \(name)  \(page?.rows ?? 0) rows\(found)", 48) + Self.padded("KIND", 20)
            + Self.padded("PID", 10) + Self.right("AGE", 7) + Self.right("RESTARTS", 10) + "  LAST EXIT"
        var lines = [TopLine(title, .soft)]
        for (index, row) in (page?.page ?? []).enumerated() {
            lines.append(TopLine(Self.text(row), index == selected ? .selected : Self.style(row)))
        }
        if page?.isRunning == false { lines.append(TopLine("the tree is not running", .warning)) }
        return lines
    }

    private static func style(_ row: TreeRow) -> TopStyle {
        if row.isCoolingDown || row.abandoned > 0 { return .bad }
        return row.status == "running" ? .plain : .warning
    }

    static func text(_ row: TreeRow) -> String {
        var rails = ""
        for (index, rail) in row.rails.enumerated() {
            let isLast = index == row.rails.count - 1
            rails += isLast ? (rail == "1" ? "├─" : "└─") : rail == "1" ? "│ " : "  "
        }
        let mark = row.isSupervisor && row.children > 0 ? (row.isOpen ? "▾" : "▸") : " "
        var name = rails + mark + row.name
        if row.isSupervisor, !row.isOpen, row.below > 0 { name += " (\(row.below) below)" }
        var state = ""
        if let seconds = row.startsIn {
            state = (row.isCoolingDown ? "cools down, " : "") + "starts in \(time(seconds))  "
        } else if row.status != "running" {
            state = "\(row.status)  "
        }
        if row.abandoned > 0 { state += "zombies \(row.abandoned)  " }
        if let window = row.window, window.used > 0 {
            state += "\(window.used)/\(window.allowed) in \(time(window.period))  "
        }
        return padded(name, 48) + padded(row.kind, 20) + padded(row.pid ?? "-", 10)
            + right(row.age.map { time($0) } ?? "-", 7) + right("\(row.restarts)", 10) + "  " + state
            + (row.lastExit ?? "")
    }

    // MARK: Calls and events

    private var callLines: [TopLine] {
        guard let traffic else { return [TopLine("no call is known yet", .soft)] }
        var lines: [TopLine] = []
        for caller in traffic.callers {
            lines.append(
                TopLine(
                    "CALLER \(caller.service)  \(caller.state)  sent \(caller.sent)  waiting \(caller.waiting)  "
                        + "retries \(caller.retries)  unmatched \(caller.unmatchedReplies)",
                    caller.state == "ready" ? .title : .warning
                )
            )
            lines += Self.lines(caller.procedures) + Self.lines(inFlight: caller.oldest)
        }
        for receiver in traffic.receivers {
            let backlog = receiver.backlog.map { "\($0) in \(receiver.queue), \(receiver.consumers ?? 0) consumers" }
            lines.append(
                TopLine(
                    "RECEIVER \(receiver.service)  \(receiver.state)  running \(receiver.running)/\(receiver.concurrency)  "
                        + "waiting \(receiver.waiting)  zombies \(receiver.zombies)  \(backlog ?? receiver.queue)",
                    receiver.state == "ready" ? .title : .warning
                )
            )
            lines += Self.lines(receiver.procedures) + Self.lines(inFlight: receiver.oldest)
        }
        return lines.isEmpty ? [TopLine("no caller and no receiver is observed", .soft)] : lines
    }

    private static func lines(_ procedures: [TrafficPage.Procedure]) -> [TopLine] {
        procedures.prefix(20).map { procedure in
            let name = (procedure.destination.isEmpty ? "" : procedure.destination + "/") + procedure.procedure
            let calls = procedure.calls
            let failed = calls.outcomes.filter { $0.key != "ok" }.sorted { $0.value > $1.value }
            return TopLine(
                "  " + padded(name, 32) + right(number(calls.rate) + "/s", 10)
                    + right("p50 " + (calls.median.map { milliseconds($0) } ?? "-"), 14)
                    + right("p99 " + (calls.p99.map { milliseconds($0) } ?? "-"), 14) + right("\(calls.total)", 10)
                    + failed.map { "  \($0.key) \($0.value)" }.joined(),
                failed.isEmpty ? .plain : .warning
            )
        }
    }

    private static func lines(inFlight calls: [TrafficPage.Call]) -> [TopLine] {
        calls.prefix(5).map { call in
            TopLine(
                "  in flight " + padded((call.destination.isEmpty ? "" : call.destination + "/") + call.procedure, 32)
                    + padded(call.stage, 10) + right("age " + time(call.age), 14)
                    + right("until deadline " + time(call.remaining), 24),
                call.remaining < 1 ? .warning : .soft
            )
        }
    }

    private var workerLines: [TopLine] {
        guard let workers else { return [TopLine("no worker is known yet", .soft)] }
        guard !workers.page.isEmpty else {
            return [TopLine("no queue worker runs in the observed trees", .soft)]
        }
        let title =
            Self.padded("WORKER", 34) + Self.padded("STATE", 10) + Self.right("RUNNING", 10)
            + Self.right("UNSETTLED", 13) + Self.right("RATE", 11) + Self.right("HANDLED", 10)
            + Self.right("FAILED", 9) + Self.right("RETRIED", 9) + Self.right("PARKED", 8) + "  QUEUES"
        var lines = [TopLine(title, .soft)]
        for worker in workers.page { lines.append(TopLine(Self.text(worker), Self.style(worker))) }
        if workers.matches > workers.page.count {
            lines.append(TopLine("and \(workers.matches - workers.page.count) more", .soft))
        }
        return lines
    }

    private static func style(_ worker: WorkerSummary) -> TopStyle {
        if worker.zombies > 0 || worker.state == "tripped" { return .bad }
        if worker.queues.contains(where: { ($0.keptAsFailed ?? 0) > 0 }) { return .warning }
        return worker.state == "working" ? .plain : .warning
    }

    static func text(_ worker: WorkerSummary) -> String {
        let queues = worker.queues.map { queue in
            queue.name + (queue.backlog.map { " \($0) waiting" } ?? "")
                + (queue.keptAsFailed.map { $0 > 0 ? ", \($0) in \(queue.failed)" : "" } ?? "")
                + (queue.interruption.map { ", \($0)" } ?? "")
        }
        return padded(worker.path, 34) + padded(worker.state, 10)
            + right("\(worker.running)/\(worker.concurrency)", 10)
            + right("\(worker.unsettled)/\(worker.prefetch)", 13) + right(number(worker.rate) + "/s", 11)
            + right("\(worker.handled)", 10) + right("\(worker.failed)", 9) + right("\(worker.retried)", 9)
            + right("\(worker.parked)", 8) + "  " + (worker.limit.map { "at most \($0)  " } ?? "")
            + queues.joined(separator: "; ")
    }

    private var eventLines: [TopLine] {
        guard !events.isEmpty else { return [TopLine("nothing has happened yet", .soft)] }
        return events.reversed().map { event in
            TopLine(Self.text(event), event.isExpected ? .plain : .bad)
        }
    }

    static func text(_ event: EventDocument) -> String {
        let delay = event.delay.map { $0 > 0 ? " in \(time($0))" : "" } ?? ""
        return "\(Clock.text(event.time))  " + padded(event.kind + delay, 22) + event.path
            + (event.pid.map { " \($0)" } ?? "") + (event.reason.map { "  \($0)" } ?? "")
    }

    private var footer: TopLine {
        if isSearching { return TopLine("search: \(query)_   Enter keeps it, Esc clears it", .title) }
        let search = query.isEmpty ? "" : "  search \"\(query)\""
        return TopLine(
            "q quit  t tree  c calls  w workers  e events  / search  n next tree  p pause  ? help\(search)",
            .soft
        )
    }

    static let help = [
        "t            the tree                      ↑ ↓ j k      move",
        "c            calls and requests            ← →  Enter   close, open",
        "w            workers of queues             PgUp PgDn    a page",
        "e            events, the newest first      g G          to the first, to the last",
        "n            the next tree                 p, space     pause",
        "/            search; Esc clears it         q            quit",
    ]
}
