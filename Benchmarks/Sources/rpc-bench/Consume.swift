import AMQPPool
import ArgumentParser
import BenchmarkSupport
import Supervision

struct Consume: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Consumes so many messages of a queue, and acknowledges each by itself.",
        discussion: "The queue is filled by raw-bench fill. Prints one line of JSON at the end."
    )

    /// Who takes the messages.
    enum Kind: String, ExpressibleByArgument, CaseIterable {
        /// The handler of a supervised consumer.
        case handler
        /// One loop over the sequence of deliveries.
        case sequence
    }

    @OptionGroup
    var connecting: Connecting

    @Option(help: "handler: a supervised consumer. sequence: one loop over the deliveries.")
    var kind = Kind.handler

    @Option(help: "How many messages.")
    var calls = 100_000

    @Option(help: "How many deliveries the broker hands over before one is acknowledged.")
    var prefetch: UInt16 = 256

    func validate() throws {
        guard calls > 0 else { throw ValidationError("--calls is at least 1") }
    }

    func run() async throws {
        var configuration = PoolConfiguration(endpoints: try connecting.endpoints())
        connecting.configure(&configuration)
        let pool = AMQPPool(configuration: configuration, logger: connecting.logger)
        let result =
            switch kind {
            case .handler: try await handle(on: pool)
            case .sequence: try await iterate(on: pool)
            }
        JSONLine.consumed(calls, by: kind.rawValue, result).print()
    }

    private func handle(on pool: AMQPPool) async throws -> MessageCount.Result {
        let count = MessageCount(calls)
        var settings = ConsumerConfiguration()
        settings.concurrency = Int(prefetch)
        settings.prefetch = prefetch
        let root = Supervisor("bench", logger: connecting.logger) { [settings] in
            pool.supervisor
            Child.consumer("consumer", of: connecting.service, on: pool, configuration: settings) { _ in
                count.add(1)
            }
        }
        try await root.start()
        let result = await count.result()
        await root.stop()
        return result
    }

    private func iterate(on pool: AMQPPool) async throws -> MessageCount.Result {
        try await pool.start()
        let result = try await pool.withDeliveries(of: connecting.service, prefetch: prefetch) { [calls] deliveries in
            var left = calls
            var (start, cpu) = (ContinuousClock.now, Usage.cpuMicroseconds)
            for await message in deliveries {
                if left == calls { (start, cpu) = (.now, Usage.cpuMicroseconds) }
                message.acknowledge()
                left -= 1
                if left == 0 { break }
            }
            return MessageCount.Result((ContinuousClock.now - start).inSeconds, Usage.cpuMicroseconds - cpu)
        }
        await pool.stop()
        return result
    }
}
