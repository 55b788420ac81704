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

    @OptionGroup
    var request: RequestOptions

    func run() async throws {
        let rpc = try await request.caller()
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
        let (argument, timeout) = (request.argument, request.timeLimit)
        do throws(RPCError) {
            switch request.form {
            case .json:
                try await rpc.cast(
                    service,
                    RPCProcedure<JSONValue, JSONValue>(name),
                    try request.value(),
                    timeout: timeout
                )
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
