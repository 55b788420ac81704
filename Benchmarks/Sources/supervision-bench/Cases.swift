import BenchmarkSupport
import Supervision

/// What is measured. Each case has its twin in Baselines/otp, which does the same and measures by the same rules.
enum Cases {
    typealias Values = [(String, Double)]

    static func restart(_ kind: Kind, _ children: Int) async throws -> Values {
        var times: [Duration] = []
        for _ in 0..<100 {
            let arrivals = Arrivals()
            let supervisor = flat(kind, children, arrivals)
            try await supervisor.start()
            await arrivals.total(children)
            times += try await restarts(of: "1", in: supervisor, arrivals, 20)
            await supervisor.stop()
        }
        times.sort()
        return [("value", microseconds(times, 0.5)), ("p99", microseconds(times, 0.99))]
    }

    static func killAll(_ kind: Kind, _ children: Int) async throws -> Values {
        let arrivals = Arrivals()
        let supervisor = flat(kind, children, arrivals)
        try await supervisor.start()
        await arrivals.total(children)
        let pids = try supervisor.reference().whichChildren().compactMap(\.pid)
        let begin = ContinuousClock.now
        _ = await arrivals.next(children) { for pid in pids { pid.kill() } }
        let time = ContinuousClock.now - begin
        await supervisor.stop()
        return [("value", Double(children) / time.inSeconds)]
    }

    static func start(_ kind: Kind, _ children: Int) async throws -> Values {
        let supervisor = dynamic()
        try await supervisor.start()
        let begin = ContinuousClock.now
        try await startChildren(children, kind, in: supervisor)
        let time = ContinuousClock.now - begin
        await supervisor.stop()
        return [("value", Double(children) / time.inSeconds)]
    }

    static func memory(_ kind: Kind, _ children: Int) async throws -> Values {
        let supervisor = dynamic()
        try await supervisor.start()
        // What the system takes for the first of anything is not counted.
        try await startChildren(1000, kind, in: supervisor)
        try await Task.sleep(for: .milliseconds(200))
        let before = Usage.residentBytes
        try await startChildren(children, kind, in: supervisor)
        try await Task.sleep(for: .milliseconds(200))
        let after = Usage.residentBytes
        await supervisor.stop()
        return [("value", Double(after - before) / Double(children))]
    }

    static func stop(_ kind: Kind, _ children: Int) async throws -> Values {
        let supervisor = dynamic()
        try await supervisor.start()
        try await startChildren(children, kind, in: supervisor)
        try await Task.sleep(for: .milliseconds(200))
        let begin = ContinuousClock.now
        await supervisor.stop()
        return [("value", (ContinuousClock.now - begin).inSeconds * 1000)]
    }

    static func scale(_ kind: Kind, _ children: Int) async throws -> Values {
        let before = Usage.residentBytes
        let arrivals = Arrivals()
        let begin = ContinuousClock.now
        let supervisor = flat(kind, children, arrivals)
        try await supervisor.start()
        await arrivals.total(children)
        let start = ContinuousClock.now - begin
        let memory = Double(Usage.residentBytes - before) / Double(children)
        try await Task.sleep(for: .milliseconds(200))
        let times = try await restarts(of: "1", in: supervisor, arrivals, 20).sorted()
        let beginStop = ContinuousClock.now
        await supervisor.stop()
        let stop = ContinuousClock.now - beginStop
        return [
            ("start_us", start.inSeconds * 1e6 / Double(children)), ("restart_us", microseconds(times, 0.5)),
            ("stop_us", stop.inSeconds * 1e6 / Double(children)), ("memory", memory),
        ]
    }

    static func repeatRestart(_ kind: Kind, _ times: Int) async throws -> Values {
        let arrivals = Arrivals()
        let supervisor = flat(kind, 1, arrivals)
        try await supervisor.start()
        await arrivals.total(1)
        let durations = try await restarts(of: "1", in: supervisor, arrivals, times).sorted()
        await supervisor.stop()
        return [("value", microseconds(durations, 0.5))]
    }

    /// Kills a child again and again; the time from each kill to the next incarnation being up.
    private static func restarts(
        of id: String,
        in supervisor: Supervisor,
        _ arrivals: Arrivals,
        _ count: Int
    ) async throws -> [Duration] {
        var times: [Duration] = []
        let reference = try supervisor.reference()
        var pid = reference.whichChildren().first { $0.id == id }?.pid
        for _ in 0..<count {
            let begin = ContinuousClock.now
            let next = await arrivals.next { pid?.kill() }
            times.append(ContinuousClock.now - begin)
            // Waits behind the restart, until the supervisor knows of it too; that is no part of the time.
            try? await reference.terminateChild("nobody")
            pid = next
        }
        return times
    }

    static func microseconds(_ sorted: [Duration], _ part: Double) -> Double {
        guard !sorted.isEmpty else { return 0 }
        let index = max(0, Int((Double(sorted.count) * part).rounded()) - 1)
        return sorted[index].inSeconds * 1e6
    }
}
