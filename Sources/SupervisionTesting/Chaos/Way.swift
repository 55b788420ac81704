extension Chaos {
    /// A way in which a process ends.
    public enum Way: Sendable, Hashable {
        /// How often the following starts fail, before the start closure is called.
        public enum Failures: Sendable, Hashable {
            /// This many times.
            case times(Int)
            /// Until nobody retries any more, or it is certain that retrying never ends.
            case always
        }

        /// It crashes with ``LiveTree/Crash``.
        case crash
        /// `Pid.kill()`.
        case kill
        /// It ends as if its `run()` had returned.
        case normalEnd
        /// It is asked to stop with `ExitReason.shutdown(cause:)`, as by an administrator, and ends by itself.
        case gracefulStop
        /// It hangs and is then killed: its exit is withheld, it sees neither stop nor cancellation, and its supervisor has to abandon it.
        /// For a supervisor, every worker below it hangs. No thread is blocked, and the kit releases it later.
        case hang
        /// It crashes, and its restart fails at first, or always.
        case failingRestart(Failures)
        /// No process ends: the ``Chaos/Fault`` named instead of the path happens around the tree.
        case outside

        /// All ways to end a process, with a failing restart once, twice and always.
        public static let all: [Way] = [
            .crash, .kill, .normalEnd, .gracefulStop, .hang, .failingRestart(.times(1)), .failingRestart(.times(2)),
            .failingRestart(.always),
        ]

        /// All except restarts that always fail.
        public static let survivable = all.filter { $0 != .failingRestart(.always) }
    }
}

extension Chaos.Way: LosslessStringConvertible {
    /// The text in a ``Chaos/Scenario``: `crash`, `hang`, `failing-restart(2)`, `failing-restart(always)`.
    public var description: String {
        switch self {
        case .crash: "crash"
        case .kill: "kill"
        case .normalEnd: "normal-end"
        case .gracefulStop: "graceful-stop"
        case .hang: "hang"
        case .failingRestart(.times(let times)): "failing-restart(\(times))"
        case .failingRestart(.always): "failing-restart(always)"
        case .outside: "outside"
        }
    }

    /// Parses the text written by ``description``.
    public init?(_ description: String) {
        if let way = (Chaos.Way.all + [.outside]).first(where: { $0.description == description }) {
            self = way
            return
        }
        guard let match = description.wholeMatch(of: #/failing-restart\((\d+)\)/#), let times = Int(match.1) else {
            return nil
        }
        self = .failingRestart(.times(times))
    }
}
