import ArgumentParser
import BenchmarkSupport

@main
enum Main {
    static func main() {
        runBlocking { await RPCBench.main(nil) }
    }
}

struct RPCBench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rpc-bench",
        abstract:
            "Measures our caller and receiver; either can be paired with the other side of Baselines/librabbitmq.",
        discussion: """
            In three terminals:
              rpc-bench broker                                 (prints its URL)
              rpc-bench server --url amqp://...                (or raw-bench server --mode wire --port ...)
              rpc-bench client --url amqp://... --inflight 64  (or raw-bench client --mode wire --port ...)

            The client prints one line of JSON when it is done; server and broker run until their standard input ends, and \
            the server prints its line then.
            """,
        subcommands: [
            Client.self, Server.self, WorkerBench.self, Consume.self, Publish.self, Broker.self, ActorNode.self,
            ActorTimes.self,
        ]
    )
}

/// What a side of ours does on the wire.
enum Mode: String, ExpressibleByArgument, CaseIterable {
    /// All that a call promises: JSON, confirms, mandatory, a shared reply queue, acknowledged replies.
    case full
    /// The least that a call of ours can be: raw bytes, and replies straight to the channel, unacknowledged.
    case plain
    /// As full, but the method of a distributed actor.
    case actor
    /// As full, with a struct as argument and result, in JSON.
    case structure = "struct"
    /// As full, with the same struct as a message of Protocol Buffers.
    case protobuf
    /// As full, with bytes that nobody reads.
    case bytes
}
