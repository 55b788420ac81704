import AMQPPool
import ArgumentParser
import LocalBroker
import Logging
import RPCCaller
import RPCReceiver
import Supervision
import SupervisionTesting

struct Demo: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make calls, then play \"kill the process\": see what dies, and what does not.",
        discussion: """
            Starts a private RabbitMQ of its own on a free loopback port, unless --url or AMQP_URL names one; then the step \
            that kills the broker is left out. Each step says what is expected and what was observed, by asking the broker. \
            Exits with 1 if an observation differs. Takes about half a minute.
            """
    )

    @OptionGroup
    var broker: BrokerOptions

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
            let view = BrokerView(local: local, endpoints: endpoints, logger: broker.logger)
            let scenes = DemoScenes(rpc: rpc, receiver: receiver, view: view, transcript: transcript)
            try await scenes.calls()
            try await scenes.killChannel()
            try await scenes.killConnection()
            try await scenes.killPendingRequests()
            if let local { try await scenes.killBroker(local) }
        } catch {
            await rpc.stop()
            await receiver.stop()
            throw error
        }
        await rpc.stop()
        await receiver.stop()
    }
}
