import ArgumentParser
import BenchmarkContracts
import BenchmarkSupport
import NIOCore
import RPCActors
import RPCCaller
import RPCContract

struct Client: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Calls \"echo\" with our caller, and prints one line of JSON.",
        discussion: """
            Keeps --inflight calls waiting at any time (a closed loop), or begins --rate of them a second (an open one: a call \
            that is late because all were busy counts from the moment it was due).
            """
    )

    @OptionGroup
    var connecting: Connecting

    @Option(help: "Calls that wait at once.")
    var inflight = 64

    @Option(help: "Bytes of the body: a JSON string with its quotes. Modes struct and protobuf have their own.")
    var body = 64

    @Option(help: "How long to measure.")
    var seconds = 3.0

    @Option(help: "How long to run before that.")
    var warmup = 1.0

    @Option(help: "Measure so many calls instead, after a tenth of them.")
    var calls: Int?

    @Option(help: "Begin so many calls a second; 0 for as many as possible.")
    var rate = 0.0

    @Flag(help: "Make the calls on the executor of the caller's connections.")
    var executor = false

    func validate() throws {
        guard inflight > 0, body > 1 else { throw ValidationError("--inflight is at least 1, --body at least 2") }
    }

    func run() async throws {
        var configuration = RPCCallerConfiguration(endpoints: try connecting.endpoints())
        connecting.configure(&configuration.pool)
        configuration.maximumCallsInFlight = max(10_000, inflight)
        if connecting.mode == .plain {
            configuration.replies = .direct
            configuration.confirms = false
        }
        let caller = RPCCaller(service: "bench", configuration: configuration, logger: connecting.logger)
        let actors = try connecting.actors("bench")
        if connecting.mode == .actor {
            try await actors.start()
            try await actors.waitUntilReady()
        } else {
            try await caller.start()
            try await caller.waitUntilReady()
        }

        let service = connecting.service
        let bytes = ByteBuffer(repeating: UInt8(ascii: "x"), count: body)
        let load: Load
        switch connecting.mode {
        case .full:
            let text = String(repeating: "x", count: body - 2)
            load = Load(inflight: inflight, rate: rate) {
                let answer: String = try await caller.call(service, "echo", text, timeout: .seconds(30))
                return answer.utf8.count == text.utf8.count
            }
        case .plain:
            load = echoes(of: bytes, by: .echoBytes, from: caller) { [body] in $0.readableBytes == body }
        case .structure:
            load = echoes(of: Order.example, by: .echoOrder, from: caller) { $0.id == Order.example.id && $0.paid }
        case .protobuf:
            load = echoes(of: Bench_Order.example, by: .echoMessage, from: caller) { $0.paid && $0.items.count == 3 }
        case .bytes:
            load = echoes(of: bytes, by: .echoOctets, from: caller) { [body] in $0.readableBytes == body }
        case .actor:
            let text = String(repeating: "x", count: body - 2)
            let echo = try $Echoing<RPCActorSystem>.resolve(id: .service(service, "echo"), using: actors)
            load = Load(inflight: inflight, rate: rate) {
                let answer = try await RemoteCall.with(timeout: .seconds(30)) { try await echo.echo(text) }
                return answer.utf8.count == text.utf8.count
            }
        }
        // The first failure says more than a count of all.
        try await load.call()
        let result = await withTaskExecutorPreference(executor ? caller.executor : nil) {
            guard let calls else { return await load.run(warmup: .seconds(warmup), for: .seconds(seconds)) }
            await load.run(calls: (calls + 9) / 10)
            return await load.run(calls: calls)
        }
        print(result, load)
        await caller.stop()
        await actors.stop()
    }

    /// Calls of a procedure that returns its argument.
    private func echoes<Value: Sendable>(
        of value: Value,
        by procedure: RPCProcedure<Value, Value>,
        from caller: RPCCaller,
        isRight: @escaping @Sendable (Value) -> Bool
    ) -> Load {
        Load(inflight: inflight, rate: rate) { [service = connecting.service] in
            isRight(try await caller.call(service, procedure, value, timeout: .seconds(30)))
        }
    }

    private func print(_ result: Load.Result, _ load: Load) {
        var line = JSONLine()
        line.add("program", "ours")
        line.add("side", "client")
        line.add("mode", connecting.mode.rawValue)
        line.add("calls", result.calls)
        line.add("inflight", inflight)
        line.add("body", body)
        line.add("seconds", result.seconds)
        line.add("rps", Double(result.calls) / result.seconds)
        let percentiles = [50, 99, 99.9]
        for (key, value) in zip(
            ["p50_us", "p99_us", "p999_us"],
            load.latencies.microseconds(atPercentiles: percentiles)
        ) {
            line.add(key, value)
        }
        line.add("cpu_us_per_call", result.cpu / Double(result.calls))
        line.add("max_rss_kb", Usage.maximumResidentKilobytes)
        line.add("errors", result.errors)
        line.add("connections", connecting.connections)
        line.add("channels", connecting.channels)
        line.print()
    }
}
