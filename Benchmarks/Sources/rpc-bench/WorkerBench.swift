import AMQPPool
import ArgumentParser
import BenchmarkSupport
import NIOCore
import QueueWorkers
import RPCContract
import Supervision

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
        let count = MessageCount(calls)
        var settings = WorkerConfiguration()
        settings.concurrency = batch > 1 ? 4 : 64
        settings.prefetch = prefetch
        let root = Supervisor("bench", logger: connecting.logger) { [settings] in
            pool.supervisor
            worker(on: pool, settings, count)
        }
        try await root.start()
        JSONLine.consumed(calls, by: "worker", await count.result()).print()
        await root.stop()
    }

    private func worker(on pool: AMQPPool, _ settings: WorkerConfiguration, _ count: MessageCount) -> Child {
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
}
