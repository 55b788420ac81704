import ArgumentParser
import BenchmarkSupport
import Foundation
import Logging
import RPCCaller
import RPCReceiver
import RPCTesting
import Supervision
import SupervisionObserver
import Synchronization

@main
enum Main {
    static func main() {
        runBlocking { await ObserverBench.main(nil) }
    }
}

struct ObserverBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "observer-bench",
        abstract: "A large tree under calls, with an observer, for somebody else to look at.",
        discussion: """
            Prints "ready" and the page's address, or "none". Then each line on its standard input is answered with a line of \
            JSON: the CPU time of the process in microseconds, the calls that have ended, and the resident set. It ends with \
            its input.
            """
    )

    private actor Idle {}

    @Option(help: "Processes in the tree.")
    var children = 10_000

    @Option(help: "Calls a second.")
    var rate = 5000

    @Flag(help: "Without an observer, to compare with.")
    var none = false

    func run() async throws {
        let logger = Logger(label: "bench") { _ in SwiftLogNoOpLogHandler() }
        let tree = Supervisor("app", logger: logger) { DynamicSupervisor("sessions") }
        try await tree.start()
        let sessions = try tree.dynamicSupervisor("sessions")
        for _ in 0..<children { let _: Pid? = try await sessions.startChild(Child("session") { _ in Idle() }) }

        let receiver = RPCReceiver(service: "bench", endpoints: [], concurrency: 256, logger: logger) {
            RPCHandler("echo") { (text: String, _) in text }
        }
        let caller = RPCCaller.inProcess(receivers: [receiver], logger: logger)
        let calls = Calls(caller: caller, rate: rate)
        let load = Task.detached { await calls.run() }

        var running: Task<Void, any Error>?
        if none {
            print("ready none")
        } else {
            var configuration = ObserverConfiguration()
            configuration.port = 0
            let observer = Observer(
                trees: [tree],
                callers: [caller],
                receivers: [receiver],
                configuration: configuration,
                logger: logger
            )
            running = Task { try await observer.run() }
            print("ready \(await observer.url() ?? "none")")
        }
        fflush(nil)
        while readLine() != nil {
            var line = JSONLine()
            line.add("cpu_us", Usage.cpuMicroseconds)
            line.add("calls", calls.ended)
            line.add("rss", Usage.residentBytes)
            line.print()
        }
        load.cancel()
        running?.cancel()
        _ = await running?.result
        await tree.stop()
    }
}

/// Calls at a steady rate, a few at a time.
private final class Calls: Sendable {
    private let caller: RPCCaller
    private let rate: Int
    private let count = Atomic(0)

    init(caller: RPCCaller, rate: Int) {
        self.caller = caller
        self.rate = rate
    }

    var ended: Int { count.load(ordering: .relaxed) }

    func run() async {
        let start = ContinuousClock.now
        var begun = 0
        while !Task.isCancelled {
            let elapsed = start.duration(to: .now).components
            let due = Int((Double(elapsed.seconds) + Double(elapsed.attoseconds) / 1e18) * Double(rate))
            let missing = min(500, due - begun)
            if missing > 0 {
                await withTaskGroup(of: Void.self) { group in
                    for _ in 0..<missing {
                        group.addTask { [self] in
                            let answer: String? = try? await caller.call("bench", "echo", "hello")
                            if answer != nil { count.add(1, ordering: .relaxed) }
                        }
                    }
                }
                begun += missing
            }
            try? await Task.sleep(for: .milliseconds(5))
        }
    }
}
