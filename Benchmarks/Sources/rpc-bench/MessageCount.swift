import BenchmarkSupport
import Synchronization

/// Counts messages that handlers take, from the first to the last.
final class MessageCount: Sendable {
    typealias Result = (seconds: Double, cpu: Double)

    private struct State {
        var left: Int
        var begun: (time: ContinuousClock.Instant, cpu: Double)?
        var result: Result?
        var waiter: CheckedContinuation<Result, Never>?
    }

    private let state: Mutex<State>

    /// Waits for so many messages.
    init(_ count: Int) {
        state = Mutex(State(left: count))
    }

    /// So many more are there.
    func add(_ count: Int) {
        let (waiter, result) = state.withLock { state in
            let begun = state.begun ?? (.now, Usage.cpuMicroseconds)
            state.begun = begun
            state.left -= count
            if state.left <= 0, state.result == nil {
                let seconds = begun.time.duration(to: .now).inSeconds
                state.result = (seconds, Usage.cpuMicroseconds - begun.cpu)
            }
            defer { if state.result != nil { state.waiter = nil } }
            return (state.waiter, state.result)
        }
        if let result { waiter?.resume(returning: result) }
    }

    /// The time and the CPU time of this process from the first message to the last, once that is there.
    func result() async -> Result {
        await withCheckedContinuation { continuation in
            let result = state.withLock { state in
                if state.result == nil { state.waiter = continuation }
                return state.result
            }
            if let result { continuation.resume(returning: result) }
        }
    }
}

extension JSONLine {
    /// What a consumer of so many messages found.
    static func consumed(_ messages: Int, by kind: String, _ result: MessageCount.Result) -> JSONLine {
        var line = JSONLine()
        line.add("program", "ours")
        line.add("side", "consume")
        line.add("kind", kind)
        line.add("messages", messages)
        line.add("seconds", result.seconds)
        line.add("rate", Double(messages) / result.seconds)
        line.add("cpu_us_per_message", result.cpu / Double(messages))
        line.add("max_rss_kb", Usage.maximumResidentKilobytes)
        return line
    }
}
