import AMQPPool
import ArgumentParser
import RPCCaller

struct Call: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Call a procedure and print its result.",
        discussion: """
            Standard output gets only the result; errors go to standard error. Control characters in what \
            comes from the other side are written as \\u{1B}: only --raw writes its bytes as they are.

            \(ToolExit.help) With --repeat it is that of the first call that failed.

            Examples:
              rpc call math add '[4, 9]'
              rpc call math fib 30 --timeout 1
              rpc call math echo '{"any": ["JSON", null]}'
              rpc call math add '[4, 9]' --repeat 60
                and restart the broker meanwhile
              rpc call rpc_queue '' 30 --queue --text
                calls the server of RabbitMQ's tutorial
            """
    )

    @Argument(help: "The service to call, or with --queue the queue.")
    var destination: String

    @Argument(help: "Its procedure; '' is the default one.")
    var procedure: String

    @OptionGroup
    var request: RequestOptions

    @Flag(help: "Send the request directly to a queue, for a server that knows nothing about services.")
    var queue = false

    @Option(
        name: .customLong("repeat"),
        help: ArgumentHelp(
            "How many times to call. A failed call is reported, and the next one follows.",
            valueName: "times"
        )
    )
    var times = 1

    @Option(help: ArgumentHelp("How long to wait between two calls of --repeat.", valueName: "seconds"))
    var interval = 1.0

    func validate() throws {
        guard times > 0 else { throw ValidationError("--repeat must be at least 1, but is \(times)") }
        guard interval >= 0, interval <= 1_000_000 else {
            throw ValidationError("--interval takes a number of seconds, not \(interval)")
        }
    }

    func run() async throws {
        let rpc = try await request.caller()
        var failure: ExitCode?
        var failures = 0
        var hints: Set<String> = []
        for time in 0..<times {
            if time > 0 { try await Task.sleep(for: .seconds(interval)) }
            do throws(RPCError) {
                try await call(rpc)
            } catch {
                Environment.writeError("rpc: \(error)")
                if let hint = ToolExit.hint(for: error, isQueue: queue), hints.insert(hint).inserted {
                    Environment.writeError("     \(hint)")
                }
                failure = failure ?? ToolExit.code(for: error)
                failures += 1
            }
        }
        await rpc.stop()
        if times > 1 { Environment.writeError("rpc: \(times - failures) of \(times) calls were answered") }
        if let failure { throw failure }
    }

    /// Makes the call, and prints the result.
    private func call(_ rpc: RPCCaller) async throws(RPCError) {
        let name = procedure.isEmpty ? nil : procedure
        switch request.form {
        case .json:
            let procedure = RPCProcedure<JSONValue, JSONValue>(name)
            Environment.writeOutput("\(try await call(rpc, procedure, request.value()))".escapedButLines)
        case .text:
            let procedure = RPCProcedure<String, String>(name, codec: .text)
            Environment.writeOutput(try await call(rpc, procedure, request.argument).escapedButLines)
        case .raw:
            let procedure = RPCProcedure<[UInt8], [UInt8]>(
                name,
                request: .bytes,
                response: BytesCodec(acceptsAnyType: true)
            )
            Environment.writeOutput(try await call(rpc, procedure, Array(request.argument.utf8)))
        }
    }

    private func call<Value>(
        _ rpc: RPCCaller,
        _ procedure: RPCProcedure<Value, Value>,
        _ value: Value
    ) async throws(RPCError) -> Value {
        let timeout = request.timeLimit
        return queue
            ? try await rpc.callQueue(destination, procedure, value, timeout: timeout)
            : try await rpc.call(destination, procedure, value, timeout: timeout)
    }
}
