import ArgumentParser
import LocalBroker

struct Broker: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Runs a private broker until standard input ends.",
        discussion: "Prints its port and its URL in one line when it accepts connections."
    )

    func run() async throws {
        let broker = try await LocalBroker.start()
        say("\(broker.port) \(broker.url)")
        await Input.ended()
        await broker.stop()
        await broker.shutdown()
    }
}
