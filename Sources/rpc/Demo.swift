import AMQPPool
import ArgumentParser
import LocalBroker
import Logging
import RPCCaller
import RPCReceiver
import Supervision
import SupervisionTesting
import UnixSignals

struct Demo: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make calls, then play \"kill the process\": see what ends and what survives.",
        discussion: """
            Starts a private RabbitMQ of its own on a free loopback port, unless --url or AMQP_URL names one; then the step \
            that kills the broker is left out. Each step says what is expected and what was observed, by asking the broker. \
            Exits with 1 if an observation differs. Takes about half a minute.

            With --observe it walks: calls are made all the time, there is a pause before each step, and the page stays until you \
            press Ctrl-C.
            """
    )

    @OptionGroup
    var observe: ObserveOptions

    @Option(help: ArgumentHelp("How long to pause before each step with --observe.", valueName: "seconds"))
    var pause = 6.0

    @Flag(help: "With --observe: end after the last step.")
    var once = false

    @OptionGroup
    var broker: BrokerOptions

    func validate() throws {
        guard (0...3600).contains(pause) else { throw ValidationError("--pause takes 0 to 3600 seconds, not \(pause)") }
    }

    private var isObserved: Bool { observe.address != nil }

    func run() async throws {
        let endpoints = try broker.endpoints()
        let transcript = Transcript()
        if endpoints.isEmpty {
            transcript.say("Starting a private RabbitMQ...")
            let local = try await LocalBroker.start()
            transcript.say("It listens on 127.0.0.1:\(local.port).")
            do {
                try await play(on: [try Endpoint(url: local.url)], local: local, transcript)
            } catch {
                await local.shutdown()
                throw error
            }
            await local.shutdown()
        } else {
            try await play(on: endpoints, local: nil, transcript)
        }
        guard transcript.differences == 0 else {
            transcript.say("\n\(transcript.differences) observations differ from what was expected.")
            throw ExitCode.failure
        }
        transcript.say("\nEverything was as expected.")
    }

    private func play(on endpoints: [Endpoint], local: LocalBroker?, _ transcript: Transcript) async throws {
        let receiver = RPCReceiver(service: "demo-math", endpoints: endpoints, logger: broker.logger) {
            ExampleService.procedures(.json)
        }
        let rpc = RPCCaller(service: "demo-caller", endpoints: endpoints, logger: broker.logger)
        try await receiver.start()
        try await rpc.start()
        do {
            try await receiver.waitUntilReady(timeout: .seconds(20))
            try await rpc.waitUntilReady(timeout: .seconds(20))
            try await observe.observing(callers: [rpc], receivers: [receiver], logger: broker.logger) {
                try await play(rpc, receiver, on: endpoints, local: local, transcript)
            }
        } catch {
            await rpc.stop()
            await receiver.stop()
            throw error
        }
        await rpc.stop()
        await receiver.stop()
    }

    private func play(
        _ rpc: RPCCaller,
        _ receiver: RPCReceiver,
        on endpoints: [Endpoint],
        local: LocalBroker?,
        _ transcript: Transcript
    ) async throws {
        let view = BrokerView(local: local, endpoints: endpoints, logger: broker.logger)
        let scenes = DemoScenes(rpc: rpc, receiver: receiver, view: view, transcript: transcript)
        let load = isObserved ? Task { await makeCalls(rpc) } : nil
        defer { load?.cancel() }
        var steps: [() async throws -> Void] = [
            scenes.calls, scenes.killChannel, scenes.killConnection, scenes.killPendingRequests,
        ]
        if let local { steps.append { try await scenes.killBroker(local) } }
        for step in steps {
            if isObserved { try await Task.sleep(for: .seconds(pause)) }
            try await step()
        }
        guard isObserved, !once else { return }
        transcript.say("\nThe page stays until you press Ctrl-C.")
        for await _ in await UnixSignalsSequence(trapping: .sigint, .sigterm) { break }
    }

    /// Traffic to look at. The page shows the outcomes of these calls.
    private func makeCalls(_ rpc: RPCCaller) async {
        var number = 0
        while !Task.isCancelled {
            number += 1
            let call: (String, JSONValue) =
                switch number % 20 {
                case 0: ("fail", .string("no luck"))
                case 1...4: ("fib", .integer(Int64(number % 90)))
                case 5: ("echo", .string("hello"))
                default: ("add", .array([.integer(4), .integer(9)]))
                }
            let procedure = RPCProcedure<JSONValue, JSONValue>(call.0)
            _ = try? await rpc.call(DemoScenes.service, procedure, call.1, timeout: .seconds(5))
            try? await Task.sleep(for: .milliseconds(20))
        }
    }
}
