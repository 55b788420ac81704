import AMQPPool
import ArgumentParser
import RPCCaller

struct Cast: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Send a request without a reply.",
        discussion: """
            Prints nothing, and ends when the broker has confirmed the request.

            \(ToolExit.help)

            Examples:
              rpc cast mailer send '{"to": "ann"}'
              rpc cast math add '[4, 9]' --header tenant=blue
            """
    )

    @Argument(help: "The service.")
    var service: String

    @Argument(help: "Its procedure; '' is the default one.")
    var procedure: String

    @Argument(help: ArgumentHelp("The argument; as JSON unless --text or --raw is given.", valueName: "argument"))
    var argument = "null"

    @Option(help: ArgumentHelp("How long to wait for the broker, connecting included.", valueName: "seconds"))
    var timeout = 5.0

    @Flag
    var form = Form.json

    @OptionGroup
    var headers: HeaderOptions

    @OptionGroup
    var broker: BrokerOptions

    func validate() throws {
        guard timeout > 0, timeout <= 1_000_000 else {
            throw ValidationError("--timeout takes a number of seconds greater than 0, not \(timeout)")
        }
        if form == .json { _ = try JSONArgument.value(argument) }
    }

    func run() async throws {
        var configuration = RPCCallerConfiguration(endpoints: try broker.endpointsOrDefault())
        configuration.pool.connections = 1
        configuration.interceptors = try headers.interceptors()
        let rpc = RPCCaller(service: "rpc-tool", configuration: configuration, logger: broker.logger)
        try await rpc.start()
        let result = await cast(rpc)
        await rpc.stop()
        if case .failure(let error) = result {
            Environment.writeError("rpc: \(error)")
            if let hint = ToolExit.hint(for: error, isQueue: false) { Environment.writeError("     \(hint)") }
            throw ToolExit.code(for: error)
        }
    }

    private func cast(_ rpc: RPCCaller) async -> Result<Void, RPCError> {
        let name = procedure.isEmpty ? nil : procedure
        let timeout = Duration.milliseconds(Int64(timeout * 1000))
        do throws(RPCError) {
            switch form {
            case .json:
                guard let value = try? JSONArgument.value(argument) else {
                    throw .invalidRequest("the argument is not JSON")
                }
                try await rpc.cast(service, RPCProcedure<JSONValue, JSONValue>(name), value, timeout: timeout)
            case .text:
                let procedure = RPCProcedure<String, String>(name, codec: .text)
                try await rpc.cast(service, procedure, argument, timeout: timeout)
            case .raw:
                let procedure = RPCProcedure<[UInt8], [UInt8]>(name, codec: .bytes)
                try await rpc.cast(service, procedure, Array(argument.utf8), timeout: timeout)
            }
            return .success(())
        } catch {
            return .failure(error)
        }
    }
}

/// Parses arguments that are JSON.
enum JSONArgument {
    static func value(_ text: String) throws -> JSONValue {
        do {
            return try JSONValue(parsing: text)
        } catch {
            throw ValidationError(
                "the argument is not JSON: \(text)\nA text needs quotes within quotes, as in '\"text\"'; or use --text."
            )
        }
    }
}

/// Custom headers of a request.
struct HeaderOptions: ParsableArguments {
    @Option(
        name: .customLong("header"),
        help: ArgumentHelp("A header of the request; repeat it for more.", valueName: "name=value")
    )
    var texts: [String] = []

    func validate() throws { _ = try fields() }

    func fields() throws -> [(name: String, value: String)] {
        try texts.map { text in
            guard let equals = text.firstIndex(of: "="), equals != text.startIndex else {
                throw ValidationError("--header takes name=value, not '\(text)'")
            }
            let name = String(text[..<equals])
            if ["destination", "procedure", "timeout-ms"].contains(name) {
                throw ValidationError("the header '\(name)' is the library's own")
            }
            return (name, String(text[text.index(after: equals)...]))
        }
    }

    func interceptors() throws -> [any RPCCallerInterceptor] {
        let fields = try fields()
        return fields.isEmpty ? [] : [AddHeaders(fields: fields)]
    }
}

/// Adds headers to each request.
private struct AddHeaders: RPCCallerInterceptor {
    let fields: [(name: String, value: String)]

    func intercept(_ request: RPCRequest, next: RPCCallerNext) async throws(RPCError) -> RPCReply {
        var request = request
        for (name, value) in fields { request.headers[name] = .string(value) }
        return try await next(request)
    }
}
