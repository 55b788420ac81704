import AMQPPool
import ArgumentParser
internal import ConcurrencyPrimitives
import Foundation
import Logging
import NIOCore
import NIOPosix

@main
struct RPCTool: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rpc",
        abstract: "Request and response over RabbitMQ, as supervision trees.",
        discussion: """
            Try it without a broker of your own:
              rpc demo

            Or with one, in two terminals:
              rpc serve math
              rpc call math add '[4, 9]'

            Completions for your shell are installed by:
              rpc completions
            """,
        version: LibraryVersion.text,
        subcommands: [
            Serve.self, Call.self, Cast.self, List.self, Describe.self, Tail.self, Top.self, Failed.self, Demo.self,
            Completions.self,
        ]
    )

    static func main() async {
        // Without enough descriptors, creating event loops would trap.
        let error = FileDescriptors.prepare(eventLoops: NIOSingletons.groupLoopCountSuggestion) {
            _ = MultiThreadedEventLoopGroup.singleton
        }
        if let error {
            let reason = "too few file descriptors are left: \(String(cString: strerror(error))) (ulimit -n)"
            FileHandle.standardError.write(Data("Error: \(reason)\n".utf8))
            exit(withError: ExitCode.failure)
        }
        await main(nil)
    }
}

struct BrokerOptions: ParsableArguments {
    static let defaultURL = "amqp://guest:guest@127.0.0.1:5672"

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A broker's URL; repeat it for a cluster's other nodes. Default: the variable AMQP_URL, else \(defaultURL).",
            valueName: "url"
        )
    )
    var url: [String] = []

    @Flag(name: .shortAndLong, help: "Log what the supervision tree does, on standard error.")
    var verbose = false

    /// The endpoints of `--url` or `AMQP_URL`; empty when there is neither.
    func endpoints() throws -> [Endpoint] {
        var urls = url
        if urls.isEmpty, let variable = Environment.value("AMQP_URL"), !variable.isEmpty { urls = [variable] }
        return try urls.map { url in
            do throws(EndpointError) {
                let endpoint = try Endpoint(url: url)
                try endpoint.checkConnectable()
                return endpoint
            } catch {
                throw ValidationError("the broker's URL cannot be used: \(error)")
            }
        }
    }

    func endpointsOrDefault() throws -> [Endpoint] {
        let endpoints = try endpoints()
        return endpoints.isEmpty ? [try Endpoint(url: BrokerOptions.defaultURL)] : endpoints
    }

    /// The logger of a service: each change of its state, and with `--verbose` everything.
    var storyLogger: Logger {
        Logger(label: "rpc") { label in
            var handler = StreamLogHandler.standardError(label: label)
            handler.logLevel = verbose ? .debug : .info
            return handler
        }
    }

    var logger: Logger {
        Logger(label: "rpc") { label in
            guard verbose else { return SwiftLogNoOpLogHandler() }
            var handler = StreamLogHandler.standardError(label: label)
            handler.logLevel = .debug
            return handler
        }
    }
}
