import AMQPPool
import ArgumentParser
import Logging
import RPCCaller

struct Call: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Call a procedure and print its result as JSON.",
        discussion: """
            Standard output gets the result and nothing else; what went wrong goes to standard error.

            \(ToolExit.help)

            Examples:
              rpc call math add '[4, 9]'
              rpc call math fib 30 --timeout 1
              rpc call math echo '{"any": ["JSON", null]}'
            """
    )

    @Argument(help: "The service to call.")
    var destination: String

    @Argument(help: "Its procedure.")
    var procedure: String

    @Argument(help: ArgumentHelp("The argument, as JSON.", valueName: "json"))
    var argument = "null"

    @Option(help: ArgumentHelp("How long to wait for the reply, connecting included.", valueName: "seconds"))
    var timeout = 5.0

    @OptionGroup
    var broker: BrokerOptions

    func validate() throws {
        guard timeout > 0, timeout <= 1_000_000 else {
            throw ValidationError("--timeout takes a number of seconds greater than 0, not \(timeout)")
        }
        _ = try value()
    }

    func run() async throws {
        var configuration = RPCCallerConfiguration(endpoints: try broker.endpointsOrDefault())
        configuration.pool.connections = 1
        let rpc = RPCCaller(service: "rpc-tool", configuration: configuration, logger: broker.logger)
        let argument = try value()
        try await rpc.start()
        do throws(RPCError) {
            let result: JSONValue = try await rpc.call(
                destination,
                procedure,
                argument,
                timeout: .milliseconds(Int64(timeout * 1000))
            )
            await rpc.stop()
            Environment.writeOutput("\(result)")
        } catch {
            await rpc.stop()
            Environment.writeError("rpc: \(error)")
            throw ToolExit.code(for: error)
        }
    }

    private func value() throws -> JSONValue {
        do {
            return try JSONValue(parsing: argument)
        } catch {
            throw ValidationError(
                "the argument is not JSON: \(argument)\nA text needs quotes within quotes, as in '\"text\"'."
            )
        }
    }
}
