import AMQPPool
import ArgumentParser
import Logging
import RPCReceiver
import Supervision
import Synchronization
import UnixSignals

struct Serve: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Serve the example procedures under a service name.",
        discussion: """
            The procedures, each with its argument and result:
            \(ExampleService.help)

            SIGTERM and Ctrl-C stop gracefully: nothing new is taken on, and the requests that are running are answered \
            (within 30 seconds). A second one stops at once; what was not answered goes to another receiver.

            Example: rpc serve math --concurrency 4
            """
    )

    @Argument(help: "The name that callers send requests to.")
    var service: String

    @Option(help: "How many requests run at once.")
    var concurrency = 10

    @OptionGroup
    var broker: BrokerOptions

    func validate() throws {
        guard concurrency > 0 else { throw ValidationError("--concurrency must be at least 1, but is \(concurrency)") }
        guard !service.isEmpty else { throw ValidationError("the service's name must not be empty") }
    }

    func run() async throws {
        let endpoints = try broker.endpointsOrDefault()
        let receiver = RPCReceiver(
            service: service,
            endpoints: endpoints,
            concurrency: concurrency,
            logger: broker.logger
        ) { ExampleService.procedures }
        let stopping = Flag()
        let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                try await receiver.run()
            }
            group.addTask {
                for await _ in signals {
                    if receiver.supervisor.pid?.isAlive != true { return }
                    if stopping.set() { Environment.exitNow(130) }
                    Environment.writeError("stopping: answering \(receiver.inFlight) running requests")
                    Task { await receiver.stop() }
                }
            }
            group.addTask {
                do throws(AMQPError) {
                    try await receiver.waitUntilReady(timeout: .seconds(5))
                } catch {
                    if Task.isCancelled { return }
                    Environment.writeError("\(error.cause); still trying")
                    try await receiver.waitUntilReady(timeout: .seconds(365 * 24 * 3600))
                }
                Environment.writeError("serving \"\(service)\" (stop with Ctrl-C)")
                // The group ends when the tree does, not when this is said.
                try await Task.sleep(for: .seconds(365 * 24 * 3600))
            }
            defer { group.cancelAll() }
            try await group.next()
        }
    }
}

/// Whether something has been done already.
private final class Flag: Sendable {
    private let isSet = Atomic<Bool>(false)

    /// Sets it, and tells whether it was.
    func set() -> Bool { isSet.exchange(true, ordering: .acquiringAndReleasing) }
}
