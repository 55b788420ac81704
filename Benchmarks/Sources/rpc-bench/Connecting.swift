import AMQPPool
import ArgumentParser
import Logging

/// How a side reaches the broker.
struct Connecting: ParsableArguments {
    @Option(help: "The broker.")
    var url = "amqp://guest:guest@127.0.0.1:5672"

    @Option(help: "The service that is called or served.")
    var service = "bench"

    @Option(
        help: """
            full: all that a call promises. plain: raw bytes, direct replies. actor: an actor's method. struct, protobuf, bytes: \
            as full, with a struct in JSON, one in Protocol Buffers, or raw bytes.
            """
    )
    var mode = Mode.full

    @Option(help: "How many connections.")
    var connections = 1

    @Option(help: "How many channels all connections together have, at least one each.")
    var channels = 1

    @Flag(help: "Spread the connections over the event loops, instead of one for all.")
    var spread = false

    func validate() throws {
        guard connections > 0, channels > 0 else { throw ValidationError("there must be a connection and a channel") }
    }

    func configure(_ pool: inout PoolConfiguration) {
        pool.connections = connections
        pool.spreadsOverEventLoops = spread
        pool.channelsPerConnection = max(1, (channels + connections - 1) / connections)
    }

    func endpoints() throws -> [Endpoint] { [try Endpoint(url: url)] }

    var logger: Logger { Logger(label: "bench") { _ in SwiftLogNoOpLogHandler() } }
}
