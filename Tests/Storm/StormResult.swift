import ChaosSupport
import SupervisionTesting

/// What a storm did and what came of it.
struct StormResult {
    let seed: UInt64
    /// What became of calls and messages.
    var outcomes: [String: Int] = [:]
    var reruns = 0
    var isOfWorkers = false
    private var rounds = 0
    private var steps = 0
    private var counts: [String: Int] = [:]
    private var restarted = 0
    private var gaveUp = 0
    private var duration = Duration.zero
    private var longest = Duration.zero

    init(seed: UInt64) { self.seed = seed }

    mutating func add(_ report: Chaos.Report) {
        rounds += 1
        steps += report.rows.count
        duration += report.duration
        for row in report.rows {
            for kill in row.kills {
                counts[kill.way == .outside ? kill.path : kill.way.description, default: 0] += 1
            }
            restarted += row.effects.restarted.count
            gaveUp += row.effects.gaveUp.count
            longest = max(longest, row.settledAfter)
        }
    }

    private var kills: [(String, Int)] { sorted { Chaos.Way($0) != nil } }
    private var faults: [(String, Int)] { sorted { Chaos.Way($0) == nil } }

    private func sorted(_ isWanted: (String) -> Bool) -> [(String, Int)] {
        counts.filter { isWanted($0.key) }.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { ($0.key, $0.value) }
    }

    private func sum(_ counts: [(String, Int)]) -> Int { counts.reduce(0) { $0 + $1.1 } }

    /// A summary.
    var text: String {
        let total = outcomes.values.reduce(0, +)
        return """
            \(rounds) rounds from seed \(seed), \(minutes) minutes: \(sum(kills)) processes ended and \(sum(faults)) faults around \
            them in \(steps) steps; \(restarted) processes restarted, \(gaveUp) supervisors gave up; \(total) calls and messages, \
            \(reruns) of them delivered again.
            """
    }

    private var minutes: String { "\(Int((duration / .seconds(60)).rounded()))" }

    /// The page.
    func markdown(_ failure: String?) -> String {
        let outcomes = outcomes.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
        var lines = [
            "# Storms", "",
            "Written by `scripts/storm`, which says what a storm does (`--help`). It has one broker; that a node of a cluster is killed "
                + "(`Fault.nodeKilled`) is not part of it, but of `FaultEffectTests` and of the suites about clusters.",
            "",
            text, "",
            failure == nil
                ? isOfWorkers
                    ? "Nothing was found: every message that was confirmed was handled or parked, in the order of its key, and nothing was "
                        + "left over."
                    : "Nothing was found: every call ended once and as it should, every result was right, what was acknowledged had been "
                        + "answered, and nothing was left over."
                : "Something was found:\n\n```\n\(failure ?? "")\n```",
            "",
            "The longest time until the tree had settled was \((longest / .seconds(1)).rounded()) s, the fault included.",
        ]
        lines += table("Processes ended", "way", kills)
        lines += table("Faults around them", "fault", faults)
        lines += table("What became of calls and messages", "kind and end", outcomes)
        return lines.joined(separator: "\n") + "\n"
    }

    private func table(_ title: String, _ column: String, _ rows: [(String, Int)]) -> [String] {
        ["", "## \(title)", "", "| \(column) | how many |", "|---|---|"] + rows.map { "| \($0.0) | \($0.1) |" }
    }
}
