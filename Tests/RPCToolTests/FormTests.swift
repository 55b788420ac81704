#if os(Linux)
import BrokerSupport
import Foundation
import LocalBroker
import Testing

@Suite("How rpc serve and rpc call write arguments and results", .serialized)
struct FormTests {
    private struct Exchange {
        var arguments: [String]
        var code: Int32 = 0
        var output = ""
        var error = ""
    }

    private func play(_ exchanges: [Exchange], url: String) async throws {
        for exchange in exchanges {
            let ending = try await RunningTool(["call"] + exchange.arguments + ["--url", url]).ending()
            #expect(ending.code == exchange.code, "\(exchange.arguments): \(ending)")
            #expect(ending.output == exchange.output, "\(exchange.arguments): \(ending)")
            let isSaid = exchange.error.isEmpty ? ending.error.isEmpty : ending.error.contains(exchange.error)
            #expect(isSaid, "\(exchange.arguments): \(ending)")
        }
    }

    @Test("--text: arguments and results are plain text, on both sides")
    func text() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await whileServing(url: url, ["--text", "--default", "fib"]) { _ in
                try await play(
                    [
                        Exchange(arguments: ["math", "add", "4 9", "--text"], output: "13\n"),
                        Exchange(arguments: ["math", "add", "[0.5, 1]", "--text"], output: "1.5\n"),
                        Exchange(arguments: ["math", "echo", "grüße, \"du\"", "--text"], output: "grüße, \"du\"\n"),
                        Exchange(arguments: ["math", "", "30", "--text"], output: "832040\n"),
                        Exchange(arguments: ["math", "sleep", "0", "--text"], output: "0\n"),
                        Exchange(arguments: ["math", "fail", "no luck", "--text"], code: 4, error: "failed: no luck"),
                        Exchange(arguments: ["math", "fib", "x", "--text"], code: 4, error: "\"x\" is not a number"),
                        Exchange(
                            arguments: ["math", "echo", "1"],
                            code: 4,
                            error: "--text and --raw send other arguments than JSON"
                        ),
                    ],
                    url: url
                )
            }
        }
    }

    @Test("--raw: bytes go as they are and come as they are, whatever they are called")
    func raw() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await whileServing(url: url, ["--raw", "--default", "echo"]) { _ in
                try await play(
                    [
                        Exchange(arguments: ["math", "echo", "a\nü", "--raw"], output: "a\nü"),
                        Exchange(arguments: ["math", "", "anything", "--raw"], output: "anything"),
                        Exchange(arguments: ["math", "add", "4 9", "--raw"], output: "13"),
                        // Whatever a request is called, it is taken; the result is called bytes.
                        Exchange(
                            arguments: ["math", "fib", "30"],
                            code: 1,
                            error: "--raw take other results than JSON"
                        ),
                    ],
                    url: url
                )
            }
            try await whileServing(url: url) { _ in
                try await play(
                    [
                        Exchange(
                            arguments: ["math", "add", "[1]", "--raw"],
                            code: 4,
                            error: "unsupported_content_type"
                        )
                    ],
                    url: url
                )
            }
        }
    }

    @Test("--queue: a plain queue is answered, and called, without anything of services")
    func queue() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let server = try RunningTool(["serve", "sums", "--queue", "--default", "add", "--url", url])
            defer { server.signal(SIGKILL) }
            await server.says("serving \"sums\"")
            try await play(
                [
                    Exchange(arguments: ["sums", "", "[4, 9]", "--queue"], output: "13\n"),
                    Exchange(arguments: ["sums", "fib", "30", "--queue"], output: "832040\n"),
                    Exchange(arguments: ["sums", "add", "[]"], code: 3, error: "rpc serve sums"),
                    Exchange(
                        arguments: ["sums.rpcs", "add", "[]", "--queue"],
                        code: 3,
                        error: "rpc serve sums.rpcs --queue"
                    ),
                ],
                url: url
            )
            let queues = try await broker.queues(virtualHost: virtualHost).map(\.name)
            #expect(queues == ["sums"])
        }
    }

    @Test(
        "a queue that was declared in another way ends rpc serve, which says what to do; --transient takes it",
        .enabled("the broker does not permit transient queues") { try await TestBroker.permitsTransientQueues() }
    )
    func transient() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            try await broker.declareQueue("sums", durable: false, virtualHost: virtualHost)
            let refused = try await rpc("serve", "sums", "--queue", "--url", url)
            #expect(refused.code == 1, "\(refused)")
            #expect(refused.error.contains("the broker refuses queue \"sums\": 406"), "\(refused)")
            #expect(refused.error.contains("--transient"), "\(refused)")
            let server = try RunningTool(["serve", "sums", "--queue", "--transient", "--default", "add", "--url", url])
            defer { server.signal(SIGKILL) }
            await server.says("serving \"sums\"")
            try await play([Exchange(arguments: ["sums", "", "[4, 9]", "--queue"], output: "13\n")], url: url)
        }
    }
}
#endif
