extension Chaos {
    /// A way in which a process ends.
    public enum Way: Sendable, Hashable {
        /// How often the starts that follow fail, before the start closure is called.
        public enum Failures: Sendable, Hashable {
            /// This many times.
            case times(Int)
            /// Until nobody tries any more, or it is clear that somebody always will.
            case always
        }

        /// It fails with ``LiveTree/Crash``.
        case crash
        /// `Pid.kill()`.
        case kill
        /// It ends as if its `run()` had returned.
        case normalEnd
        /// It is asked to end with `ExitReason.shutdown(cause:)`, as by an administrator, and ends when it wants to.
        case gracefulStop
        /// It plays dead and is then killed: its end is withheld, it hears of no stop and no cancellation, and its supervisor has to
        /// abandon it. Of a supervisor, every worker below it plays dead. No thread is blocked, and the kit lets go of it later.
        case hang
        /// It crashes, and cannot be started again at first, or ever.
        case failingRestart(Failures)
        /// No process ends: a ``Chaos/Fault`` of the name that stands in place of the path happens around the tree.
        case outside

        /// All in which a process ends; a failing restart once, twice and always.
        public static let all: [Way] = [
            .crash, .kill, .normalEnd, .gracefulStop, .hang, .failingRestart(.times(1)), .failingRestart(.times(2)),
            .failingRestart(.always),
        ]

        /// All but restarts that fail for ever.
        public static let survivable = all.filter { $0 != .failingRestart(.always) }
    }
}

extension Chaos.Way: LosslessStringConvertible {
    /// As in a ``Chaos/Scenario``: `crash`, `hang`, `failing-restart(2)`, `failing-restart(always)`.
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

    /// Reads what ``description`` writes.
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
