/// Where this library does something else than OTP on purpose. Each is either taken out of the traces before they are
/// compared, by a rule next to it here, or kept out of the scenarios by the generator; nothing else is masked.
/// `docs/otp-conformance.md` explains the same list.
enum DeliberateDifference: String, CaseIterable {
    /// A supervisor that gives up or shuts down automatically exits with `.shutdown(cause:)`, OTP's with bare `shutdown`: the
    /// cause is not to be lost on the way up. Both are normal ends to the supervisor above.
    case exitCarriesCause = "The exit of a supervisor carries its cause"
    /// OTP reports `reached_max_restart_intensity`; ours says how the child ended the last time.
    case giveUpReason = "The report of giving up tells the child's last exit reason"
    /// A killed supervisor takes its subtree with it before its end is announced, and every descendant ends as killed. In OTP
    /// its children live on for a moment, beside the next incarnation's, and those of nested supervisors end with `shutdown`.
    case killTakesSubtree = "A killed supervisor kills its whole subtree, before its end is announced"
    /// In OTP a failing start is reported at boot and at restarts, but only answered to the caller of `start_child` and
    /// `restart_child`. Ours is told to observers in any case.
    case failedCallIsReported = "A start that fails for a caller is also reported"
    /// A shutdown of a supervisor, or its kill, does not wait for a start that is under way. Kept out of the scenarios.
    case shutdownOvertakes = "A shutdown overtakes a running start"
    /// OTP's supervisor ignores an exit signal that does not come from its parent; a pid of ours that is asked to end, ends.
    /// The scenarios use `gen_server:stop` on OTP's side.
    case exitFromAnyone = "Anybody may ask a supervisor to end"

    /// OTP's trace without what differs on purpose.
    static func reconcile(theirs trace: Trace) -> Trace {
        Trace(steps: trace.steps.map(withoutKilledSubtrees))
    }

    /// Our trace without what differs on purpose.
    static func reconcile(ours trace: Trace) -> Trace {
        Trace(steps: trace.steps.map { withoutKilledSubtrees(withoutFailedCalls($0)) })
    }

    /// failedCallIsReported: one report of a failed start for each call that was answered with it.
    private static func withoutFailedCalls(_ lines: [String]) -> [String] {
        var lines = lines
        for line in lines where line.hasPrefix("result ") {
            // result PATH CALL ID: error REASON
            let words = line.split(separator: " ", maxSplits: 5)
            guard words.count == 6, words[2] == "start_child" || words[2] == "restart_child", words[4] == "error" else {
                continue
            }
            let report = "report start_error \(words[1])/\(words[3].dropLast()) \(words[5])"
            if let index = lines.lastIndex(of: report) { lines.remove(at: index) }
        }
        return lines
    }

    private static func withoutKilledSubtrees(_ lines: [String]) -> [String] {
        let killed = killedSupervisors(lines)
        var ordered: [String] = []
        var loose: [String] = []
        for line in lines {
            if isBelow(killed, line) {
                // killTakesSubtree: who ended counts, not when and not why.
                if line.hasPrefix("stop ") {
                    loose.append(String(line.split(separator: " ").prefix(2).joined(separator: " ")))
                }
            } else {
                ordered.append(line)
            }
        }
        return ordered + loose.sorted()
    }

    /// The names of the supervisors that ended as killed: those of which a descendant is mentioned.
    private static func killedSupervisors(_ lines: [String]) -> [String] {
        lines.compactMap { line in
            let words = line.split(separator: " ")
            guard words.count == 3, words[0] == "stop", words[2] == "killed" else { return nil }
            return String(words[1])
        }
    }

    private static func isBelow(_ names: [String], _ line: String) -> Bool {
        let words = line.split(separator: " ")
        guard words.count > 1 else { return false }
        switch words[0] {
        case "stop": return names.contains { words[1].hasPrefix($0 + "/") }
        case "report": return names.contains { words[2].hasPrefix(path($0) + "/") }
        default: return false
        }
    }

    private static func path(_ name: String) -> String {
        name.split(separator: "/").map { $0.prefix { $0 != "#" } }.joined(separator: "/")
    }
}
