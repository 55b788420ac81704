import ArgumentParser
import BenchmarkContracts
import BenchmarkSupport
import RPCActors
import RPCReceiver
import Supervision

struct Server: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Answers calls of \"echo\" with our receiver until standard input ends.",
        discussion: "Prints \"ready\" when it consumes, and a line of JSON at the end."
    )

    @OptionGroup
    var connecting: Connecting

    @Option(help: "How many requests run at once.")
    var concurrency = 256

    @Flag(help: "Run the handler on the connection that its request came over.")
    var onConnection = false

    @Option(help: "In mode full: one request in 200 takes 50 ms, with its thread (blocking) or without (suspending).")
    var slow = Slowness.none

    func validate() throws {
        guard slow == .none || connecting.mode == .full else { throw ValidationError("--slow is for mode full") }
    }

    func run() async throws {
        guard connecting.mode != .actor else { return try await serveActors() }
        var configuration = RPCReceiverConfiguration(endpoints: try connecting.endpoints())
        connecting.configure(&configuration.pool)
        configuration.concurrency = concurrency
        let place = onConnection ? RPCHandler.Place.onConnection : .onPool
        let procedure =
            switch connecting.mode {
            case .full: slow.procedure(runs: place)
            case .plain: RPCHandler(.echoBytes, runs: place) { bytes, _ in bytes }
            case .structure: RPCHandler(.echoOrder, runs: place) { order, _ in order }
            case .protobuf: RPCHandler(.echoMessage, runs: place) { order, _ in order }
            case .bytes: RPCHandler(.echoOctets, runs: place) { bytes, _ in bytes }
            case .actor: RPCHandler("none") { (text: String, _) in text }
            }
        let receiver = RPCReceiver(
            service: connecting.service,
            configuration: configuration,
            logger: connecting.logger,
            procedures: RPCHandlers { procedure }
        )
        try await receiver.start()
        try await receiver.waitUntilReady()
        say("ready")
        let (cpu, start) = (Usage.cpuMicroseconds, ContinuousClock.now)
        await Input.ended()
        let counts = receiver.counts
        let (used, seconds) = (Usage.cpuMicroseconds - cpu, (ContinuousClock.now - start).inSeconds)
        var line = JSONLine()
        line.add("program", "ours")
        line.add("side", "server")
        line.add("mode", connecting.mode.rawValue)
        line.add("calls", counts.received)
        line.add("seconds", seconds)
        line.add("rps", Double(counts.received) / seconds)
        line.add("cpu_us_per_call", used / Double(counts.received))
        line.add("max_rss_kb", Usage.maximumResidentKilobytes)
        line.add("errors", counts.received - counts.answered)
        line.print()
        await receiver.stop()
    }

    private func serveActors() async throws {
        let actors = try connecting.actors(connecting.service) {
            Export(Echo.self, as: $Echoing<RPCActorSystem>.self)
        }
        let root = Supervisor("bench", strategy: .restForOne, logger: connecting.logger) {
            actors.supervisor
            Child.distributed("echo", in: actors) { Echo(actorSystem: $0) }
        }
        try await root.start()
        try await actors.waitUntilReady()
        say("ready")
        let (cpu, start) = (Usage.cpuMicroseconds, ContinuousClock.now)
        await Input.ended()
        let calls = actors.answered
        let (used, seconds) = (Usage.cpuMicroseconds - cpu, (ContinuousClock.now - start).inSeconds)
        var line = JSONLine()
        line.add("program", "ours")
        line.add("side", "server")
        line.add("mode", connecting.mode.rawValue)
        line.add("calls", calls)
        line.add("seconds", seconds)
        line.add("rps", Double(calls) / seconds)
        line.add("cpu_us_per_call", used / Double(max(1, calls)))
        line.add("max_rss_kb", Usage.maximumResidentKilobytes)
        line.add("errors", 0)
        line.print()
        await root.stop()
    }
}
