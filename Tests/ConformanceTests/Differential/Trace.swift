/// What happened in a scenario: the lines of each step, the boot first. Lines are
///
///     start NAME               a start function was called
///     stop NAME REASON         a process ended
///     report CONTEXT PATH REASON
///     result PATH CALL: ANSWER
///     state NAME ID=PROCESS... counts SPECS ACTIVE SUPERVISORS WORKERS
///
/// where a name tells the place and the incarnations: `root#1/a#2` is the second start of `a` under the first root.
struct Trace: Equatable, Sendable {
    var steps: [[String]]

    init(steps: [[String]]) { self.steps = steps }

    /// From the lines of the oracle, which writes `=` before each step.
    init(lines: [String]) {
        steps = []
        for line in lines {
            if line == "=" { steps.append([]) } else if !steps.isEmpty { steps[steps.count - 1].append(line) }
        }
    }

    /// The first step in which the traces differ, side by side.
    func difference(from other: Trace) -> String? {
        for index in 0..<max(steps.count, other.steps.count) {
            let mine = steps.indices.contains(index) ? steps[index] : ["(no such step)"]
            let theirs = other.steps.indices.contains(index) ? other.steps[index] : ["(no such step)"]
            if mine == theirs { continue }
            var lines = ["step \(index) (0 is the boot):", "  OTP:"]
            lines.append(contentsOf: theirs.map { "    " + $0 })
            lines.append("  ours:")
            lines.append(contentsOf: mine.map { "    " + $0 })
            return lines.joined(separator: "\n")
        }
        return nil
    }
}
