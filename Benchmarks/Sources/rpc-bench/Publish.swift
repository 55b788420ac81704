import AMQPPool
import ArgumentParser
import BenchmarkSupport
import NIOCore

struct Publish: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Publishes mandatory messages with confirms, and prints one line of JSON.",
        discussion: "In batches of --inflight, or with --single one by one from so many tasks."
    )

    @OptionGroup
    var connecting: Connecting

    @Option(help: "Messages that are unconfirmed at once.")
    var inflight = 1000

    @Option(help: "Bytes of the body.")
    var body = 64

    @Option(help: "How long to measure.")
    var seconds = 3.0

    @Option(help: "How long to run before that.")
    var warmup = 1.0

    @Flag(help: "A task and a publish for each message.")
    var single = false

    @Flag(help: "Publish on the executor of the pool's connections.")
    var executor = false

    func run() async throws {
        var configuration = PoolConfiguration(endpoints: try connecting.endpoints())
        connecting.configure(&configuration)
        let queue = "\(connecting.service).published"
        let pool = AMQPPool(configuration: configuration, logger: connecting.logger) { channel in
            _ = try await channel.declareQueue(queue, arguments: ["x-max-length": .int32(10_000)])
        }
        try await pool.start()
        try await pool.waitUntilReady()
        let message = OutgoingMessage(
            ByteBuffer(repeating: UInt8(ascii: "x"), count: body),
            properties: MessageProperties(contentType: "application/json"),
            routingKey: queue,
            mandatory: true
        )
        let batch = Array(repeating: message, count: single ? 1 : inflight)
        let load = Load(inflight: single ? inflight : 1, rate: 0) { [single] in
            if single {
                try await pool.publish(
                    message.body,
                    properties: message.properties,
                    routingKey: queue,
                    mandatory: true
                )
                return true
            }
            return await pool.publish(contentsOf: batch).allSatisfy { (try? $0.get()) != nil }
        }
        try await load.call()
        let result = await withTaskExecutorPreference(executor ? pool.executor : nil) {
            await load.run(warmup: .seconds(warmup), for: .seconds(seconds))
        }
        let messages = result.calls * batch.count
        var line = JSONLine()
        line.add("program", "ours")
        line.add("side", "publish")
        line.add("calls", messages)
        line.add("inflight", inflight)
        line.add("body", body)
        line.add("seconds", result.seconds)
        line.add("rps", Double(messages) / result.seconds)
        line.add("cpu_us_per_call", result.cpu / Double(max(1, messages)))
        line.add("max_rss_kb", Usage.maximumResidentKilobytes)
        line.add("errors", result.errors)
        line.print()
        await pool.stop()
    }
}
