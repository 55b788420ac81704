extension Chaos {
    /// What was done to a tree, and the effects.
    public struct Report: Sendable {
        /// One step of one scenario.
        public struct Row: Sendable {
            /// The ended processes.
            public var kills: [Chaos.Scenario.Kill]
            /// Their effects.
            public var effects: Chaos.Effects
            /// The effects as text.
            public var outcome: String
            /// How long the tree took to settle.
            public var settledAfter: Duration
            /// By how much the manual clock was advanced in the meantime.
            public var turned: Duration
            /// The number of checked invariants.
            public var checked: Int
            /// The findings; empty when there are none.
            public var findings: [Chaos.Finding]

            init(_ kills: [Chaos.Scenario.Kill], _ result: Stage.Result) {
                self.kills = kills
                effects = result.effects
                settledAfter = result.settledAfter
                turned = result.turned
                checked = result.checked
                findings = result.findings
                outcome =
                    result.targets.isEmpty && result.faults.isEmpty
                    ? "there is no such process" : result.effects.phrase(in: result.shape, targets: result.targets)
            }
        }

        /// A fault, with the smallest scenario that reproduces it.
        public struct Failure: Sendable {
            /// For ``Chaos/replay(_:expecting:)``.
            public var scenario: Chaos.Scenario
            /// The findings.
            public var findings: [Chaos.Finding]
            /// The number of kills before the scenario was reduced.
            public var original: Int
            /// Whether it was reproduced by a second run.
            public var isReproducible = true
        }

        /// The kind of run: matrix, faults, pairs, storm or replay.
        public var title: String
        /// The paths of the tree, in start order.
        public var processes: [String]
        /// The seed of a storm, or of a sample of pairs.
        public var seed: UInt64?
        /// The steps, in order.
        public var rows: [Row] = []
        /// The faults.
        public var failures: [Failure] = []
        /// The growth of the OS process's resources since the first round, beyond what ``Chaos/LeakCheck`` allows.
        public var leaks: [String] = []
        /// The total duration.
        public var duration = Duration.zero

        init(title: String, processes: [String]) {
            self.title = title
            self.processes = processes
        }
    }
}

extension Chaos {
    /// A chaos test has found faults. Its description names each with the call that replays it.
    public struct Failure: Error, Sendable, CustomStringConvertible {
        /// The report of the whole run.
        public var report: Chaos.Report

        /// The faults, without the successful steps.
        public var description: String { report.faults }
    }
}

extension Chaos.Report: CustomStringConvertible {
    /// The report as text: one line per step, then the faults.
    public var description: String {
        var lines = ["\(title): \(summary)"]
        let width = rows.map { Self.text($0.kills).count }.max() ?? 0
        for row in rows {
            let kills = Self.text(row.kills)
            let mark = row.findings.isEmpty ? " " : "x"
            lines.append("\(mark) \(kills)\(String(repeating: " ", count: width - kills.count))  \(Self.details(row))")
        }
        if !failures.isEmpty || !leaks.isEmpty { lines.append(faults) }
        return lines.joined(separator: "\n")
    }

    /// The report as Markdown: for a matrix a table of processes and ways, otherwise a table of steps; then the faults.
    public var markdown: String {
        var lines = [summary, ""]
        lines += title == "matrix" ? grid : table
        for failure in failures {
            lines += ["", "- **`\(failure.scenario)`**"]
            lines += failure.findings.map { "  - \($0)" }
        }
        lines += leaks.map { "- left over: \($0)" }
        return lines.joined(separator: "\n") + "\n"
    }

    private var summary: String {
        let steps = rows.reduce(0) { $0 + $1.kills.count }
        let seed = seed.map { ", seed \($0)" } ?? ""
        let faults = failures.count + leaks.count
        return "\(steps) kills in a tree of \(processes.count) processes\(seed), "
            + "\(faults == 0 ? "no fault" : faults == 1 ? "1 fault" : "\(faults) faults"), "
            + Self.text(duration)
    }

    /// The faults, each with the call that replays it.
    var faults: String {
        let count = failures.count + leaks.count
        var lines = [
            "\(count) \(count == 1 ? "fault" : "faults") in \(rows.count) \(rows.count == 1 ? "step" : "steps")"
                + "\(seed.map { " (seed \($0))" } ?? ""):"
        ]
        for (number, failure) in failures.enumerated() {
            var findings: [String] = []
            for finding in failure.findings where !findings.contains(finding.description) {
                findings.append(finding.description)
            }
            lines.append("\(number + 1). \(findings.joined(separator: "\n   "))")
            let shrunk = failure.scenario.count < failure.original ? "  // of \(failure.original) kills" : ""
            lines.append("   try await chaos.replay(\"\(failure.scenario)\")\(shrunk)")
            if !failure.isReproducible { lines.append("   It was not reproduced by a second run.") }
        }
        lines += leaks.enumerated().map { "\(failures.count + $0 + 1). left over: \($1)" }
        return lines.joined(separator: "\n")
    }

    private var table: [String] {
        ["| ended | restarted | settled after | invariants |", "|---|---|---|---|"]
            + rows.map { row in
                "| \(Self.text(row.kills)) | \(row.outcome) | \(Self.time(row)) | \(Self.verdict(row)) |"
            }
    }

    private var grid: [String] {
        var ways: [Chaos.Way] = []
        var cells: [String: [Chaos.Way: Row]] = [:]
        for row in rows {
            guard let kill = row.kills.first else { continue }
            if !ways.contains(kill.way) { ways.append(kill.way) }
            cells[kill.path, default: [:]][kill.way] = row
        }
        var lines = ["| process | " + ways.map(\.description).joined(separator: " | ") + " |"]
        lines.append("|---|" + ways.map { _ in "---|" }.joined())
        for path in processes {
            guard let row = cells[path] else { continue }
            let columns = ways.map { way in
                row[way].map { "\($0.outcome)<br>\(Self.time($0)), \(Self.verdict($0))" } ?? "-"
            }
            lines.append("| `\(path)` | \(columns.joined(separator: " | ")) |")
        }
        return lines
    }

    private static func details(_ row: Row) -> String {
        "\(row.outcome)  (\(time(row)), \(verdict(row)))"
    }

    private static func verdict(_ row: Row) -> String {
        if row.findings.isEmpty { return row.checked == 0 ? "ok" : "\(row.checked) ok" }
        let broken = row.findings.compactMap { finding -> String? in
            if case .invariant(let name, _) = finding { return name }
            return nil
        }
        return broken.isEmpty ? "FAULT" : "BROKEN: " + broken.joined(separator: ", ")
    }

    private static func time(_ row: Row) -> String {
        row.turned > .zero ? "\(text(row.settledAfter)) + \(text(row.turned)) turned" : text(row.settledAfter)
    }

    static func text(_ kills: [Chaos.Scenario.Kill]) -> String { kills.map(\.description).joined(separator: " & ") }

    static func text(_ duration: Duration) -> String {
        let milliseconds = duration / .milliseconds(1)
        switch milliseconds {
        case ..<0.1: return "0.1 ms"
        case ..<10: return "\((milliseconds * 10).rounded() / 10) ms"
        case ..<1000: return "\(Int(milliseconds.rounded())) ms"
        default: return "\((milliseconds / 100).rounded() / 10) s"
        }
    }
}
