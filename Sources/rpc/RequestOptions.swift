import AMQPPool
import ArgumentParser
import RPCCaller

/// What the commands that send a request have in common: its argument, its headers and its broker.
struct RequestOptions: ParsableArguments {
    @Argument(help: ArgumentHelp("The argument; as JSON unless --text or --raw is given.", valueName: "argument"))
    var argument = "null"

    @Option(help: ArgumentHelp("How long to wait for the answer, connecting included.", valueName: "seconds"))
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

    var timeLimit: Duration { .milliseconds(Int64(timeout * 1000)) }

    /// The argument as JSON.
    func value() throws(RPCError) -> JSONValue {
        guard let value = try? JSONArgument.value(argument) else { throw .invalidRequest("the argument is not JSON") }
        return value
    }

    /// A running caller.
    func caller() async throws -> RPCCaller {
        var configuration = RPCCallerConfiguration(endpoints: try broker.endpointsOrDefault())
        configuration.pool.connections = 1
        configuration.interceptors = try headers.interceptors()
        let rpc = RPCCaller(service: "rpc-tool", configuration: configuration, logger: broker.logger)
        try await rpc.start()
        return rpc
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
