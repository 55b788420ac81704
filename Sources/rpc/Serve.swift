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

            With --text and --raw, arguments and results are plain text or bytes: add '4 9' is 13.

            SIGTERM and Ctrl-C stop gracefully: no new requests are accepted, and the running ones are answered \
            (within 30 seconds). A second one stops immediately; unanswered requests are redelivered to another receiver.

            Exit codes: 0 stopped, 1 the broker refuses the queue or the exchange, 64 wrong usage, 130 stopped immediately. \
            While it cannot connect, it keeps trying.

            Examples:
              rpc serve math --concurrency 4
              rpc serve math --observe
                shows itself at http://127.0.0.1:9570/, and to rpc top
              rpc serve rpc_queue --queue --text --default fib
                answers the client of RabbitMQ's tutorial
            """
    )

    @Argument(help: "The name that callers send requests to, or with --queue the queue.")
    var service: String

    @Option(help: "How many requests run concurrently.")
    var concurrency = 10

    @Flag
    var form = Form.json

    @Flag(help: "Answer requests sent directly to a queue, by clients that know nothing about services.")
    var queue = false

    @Flag(help: "The queue is not durable, as older servers of RabbitMQ's tutorial declare it.")
    var transient = false

    @Option(
        name: .customLong("default"),
        help: ArgumentHelp("The procedure that answers requests without a name.", valueName: "procedure")
    )
    var nameless: String?

    @OptionGroup
    var observe: ObserveOptions

    @OptionGroup
    var broker: BrokerOptions

    func validate() throws {
        guard concurrency > 0 else { throw ValidationError("--concurrency must be at least 1, but is \(concurrency)") }
        let limit = queue ? 255 : 200
        guard 1...limit ~= service.utf8.count else {
            let what = queue ? "queue" : "service"
            throw ValidationError("the \(what)'s name must have 1 to \(limit) bytes, and has \(service.utf8.count)")
        }
        guard !service.hasControlCharacter else {
            throw ValidationError("the name \"\(service.escaped)\" has a control character")
        }
        if let nameless, !ExampleService.names.contains(nameless) {
            let names = ExampleService.names.joined(separator: ", ")
            throw ValidationError("--default takes one of \(names), and not \(nameless)")
        }
    }

    func run() async throws {
        var configuration = RPCReceiverConfiguration(endpoints: try broker.endpointsOrDefault())
        configuration.concurrency = concurrency
        configuration.queueIsDurable = !transient
        if queue {
            configuration.queue = service
            configuration.bindings = []
        }
        let receiver = RPCReceiver(
            // A queue is not a service.
            service: queue ? "rpc-tool" : service,
            configuration: configuration,
            logger: broker.storyLogger,
            procedures: RPCHandlers { ExampleService.procedures(form, nameless: nameless) }
        )
        do {
            try await observe.observing(receivers: [receiver], logger: broker.logger) { try await serve(receiver) }
        } catch let refusal as AMQPError where refusal.stage == .operation {
            Environment.writeError("rpc: \(refusal)")
            throw ExitCode.failure
        } catch let refusal as RPCTopologyError {
            Environment.writeError("rpc: \(refusal)")
            if let hint = hint(for: refusal) { Environment.writeError("     \(hint)") }
            throw ExitCode.failure
        }
    }

    private func serve(_ receiver: RPCReceiver) async throws {
        let stopping = Once()
        let signals = await UnixSignalsSequence(trapping: .sigterm, .sigint)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                try await receiver.run()
            }
            group.addTask {
                for await _ in signals {
                    if receiver.supervisor.pid?.isAlive != true { return }
                    if stopping.set() { Environment.exitNow(ToolExit.interrupted) }
                    Environment.writeError("stopping: answering \(receiver.inFlight) running requests")
                    // The receiver's `run()` waits for the end.
                    Task { await receiver.stop() }
                }
            }
            group.addTask {
                await report(receiver)
                // The group ends with the tree, not with this service.
                try await Task.sleep(for: .seconds(365 * 24 * 3600))
            }
            defer { group.cancelAll() }
            try await group.next()
        }
    }

    /// Prints arriving requests. The receiver's log has everything else.
    private func report(_ receiver: RPCReceiver) async {
        for await state in receiver.states {
            switch state {
            case .ready: Environment.writeError("serving \"\(service)\" (stop with Ctrl-C)")
            case .connecting, .blocked, .suspended, .stopped, .stopping: continue
            }
        }
    }

    private func hint(for refusal: RPCTopologyError) -> String? {
        switch refusal.code {
        case 403: "The broker's administrator grants permissions: rabbitmqctl set_permissions"
        case 406 where refusal.text.contains("durable"):
            "It exists with other settings: --transient uses it as not durable, or it has to be deleted."
        case 541 where transient: "The broker permits no transient queues: without --transient it is durable."
        case 406: "It exists with other settings, and has to be deleted or served under another name."
        default: nil
        }
    }
}

/// A flag that is set once.
private final class Once: Sendable {
    private let isSet = Atomic<Bool>(false)

    /// Sets it, and returns whether it was set before.
    func set() -> Bool { isSet.exchange(true, ordering: .acquiringAndReleasing) }
}
