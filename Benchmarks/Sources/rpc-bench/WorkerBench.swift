import AMQPPool
import ArgumentParser
import BenchmarkSupport
import NIOCore
import QueueWorkers
import RPCContract
import Supervision
import Synchronization

/// Consumes a queue that is full with a worker of ours.
struct WorkerBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "worker",
        abstract: "Handles so many messages of a queue with a worker of ours.",
        discussion: "The queue is filled by raw-bench fill. Prints one line of JSON at the end."
    )

    @OptionGroup
    var connecting: Connecting

    @Option(help: "How many messages.")
    var calls = 100_000

    @Option(help: "How many deliveries the broker hands over before one is acknowledged.")
    var prefetch: UInt16 = 256

    @Option(help: "How many messages are handled together.")
    var batch = 1

    func run() async throws {
        var configuration = PoolConfiguration(endpoints: try connecting.endpoints())
        connecting.configure(&configuration)
        let pool = AMQPPool(configuration: configuration, logger: connecting.logger)
        let count = Count(calls)
        var settings = WorkerConfiguration()
        settings.concurrency = batch > 1 ? 4 : 64
        settings.prefetch = prefetch
        let root = Supervisor("bench", logger: connecting.logger) { [settings] in
            pool.supervisor
            worker(on: pool, settings, count)
        }
        try await root.start()
        let (seconds, cpu) = await count.result()
        var line = JSONLine()
        line.add("program", "ours")
        line.add("side", "consume")
        line.add("messages", calls)
        line.add("seconds", seconds)
        line.add("rate", Double(calls) / seconds)
        line.add("cpu_us_per_message", cpu / Double(calls))
        line.add("max_rss_kb", Usage.maximumResidentKilobytes)
        line.print()
        await root.stop()
    }

    private func worker(on pool: AMQPPool, _ settings: WorkerConfiguration, _ count: Count) -> Child {
        guard batch > 1 else {
            return Child.worker(
                from: [connecting.service],
                on: pool,
                codec: .bytes,
                retry: .never(),
                configuration: settings
            ) { (_: ByteBuffer, _) in count.add(1) }
        }
        return Child.batchWorker(
            from: [connecting.service],
            on: pool,
            codec: .bytes,
            size: batch,
            within: .milliseconds(100),
            retry: .never(),
            configuration: settings
        ) { (batch: MessageBatch<ByteBuffer>) in count.add(batch.messages.count) }
    }

    /// Counts messages, from the first to the last.
    private final class Count: Sendable {
        private struct State {
            var left: Int
            var begun: (time: ContinuousClock.Instant, cpu: Double)?
            var result: (seconds: Double, cpu: Double)?
            var waiter: CheckedContinuation<(seconds: Double, cpu: Double), Never>?
        }

        private let state: Mutex<State>

        init(_ count: Int) {
            state = Mutex(State(left: count))
        }

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

        func result() async -> (seconds: Double, cpu: Double) {
            await withCheckedContinuation { continuation in
                let result = state.withLock { state in
                    if state.result == nil { state.waiter = continuation }
                    return state.result
                }
                if let result { continuation.resume(returning: result) }
            }
        }
    }
}
