#if os(Linux)
import BrokerSupport
import Foundation
import LocalBroker
import Testing

@Suite("rpc serve and rpc call", .serialized)
struct CallTests {
    @Test("Standard output has the result as JSON and nothing else, also when logging is on")
    func results() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await whileServing(url: url) { _ in
                let calls: [(arguments: [String], output: String)] = [
                    (["add", "[4, 9]"], "13"),
                    (["add", "[0.5, 1]"], "1.5"),
                    (["add", "[]"], "0"),
                    (["fib", "30"], "832040"),
                    (["sleep", "0.01"], "0.01"),
                    (["echo", #"{"any": ["JSON", null, "ü✓"]}"#], #"{"any":["JSON",null,"ü✓"]}"#),
                    (["echo", #""text""#], #""text""#),
                    (["echo"], "null"),
                    (["add", "[1]", "--verbose"], "1"),
                ]
                for call in calls {
                    let ending = try await RunningTool(["call", "math"] + call.arguments + ["--url", url]).ending()
                    #expect(ending.code == 0, "\(call.arguments): \(ending)")
                    #expect(ending.output == call.output + "\n", "\(call.arguments): \(ending)")
                    if !call.arguments.contains("--verbose") { #expect(ending.error == "", "\(call.arguments)") }
                }
                let fromVariable = try await rpc("call", "math", "add", "[1, 2]", environment: ["AMQP_URL": url])
                #expect(fromVariable.output == "3\n")
            }
        }
    }

    @Test(
        "What comes from the other side cannot command the terminal: control characters are escaped, in results and in errors"
    )
    func controlCharacters() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await whileServing(url: url) { _ in
                for (procedure, argument) in [
                    ("fail", #""\u001b]0;owned\u0007""#), ("fail", #""\u009b31mred\u007f""#),
                    ("echo", #""\u009b31m\u202eevil""#),
                ] {
                    let ending = try await rpc("call", "math", procedure, argument, "--url", url)
                    let scalars = (ending.output + ending.error).unicodeScalars
                    #expect(!scalars.contains { $0.properties.generalCategory == .control && $0 != "\n" }, "\(ending)")
                    #expect(!scalars.contains("\u{202E}"), "\(ending)")
                    #expect((ending.output + ending.error).contains("\\u{"), "\(ending)")
                }
            }
        }
    }

    @Test("Each kind of error has its exit code, says what happened on standard error, and prints no result")
    func errors() async throws {
        try await TestBroker.withVirtualHost { broker, url, _ in
            func expect(
                _ ending: RunningTool.Ending,
                _ code: Int32,
                _ text: String,
                sourceLocation: SourceLocation = #_sourceLocation
            ) {
                #expect(ending.code == code, "\(ending)", sourceLocation: sourceLocation)
                #expect(ending.output == "", sourceLocation: sourceLocation)
                #expect(ending.error.contains(text), "\(ending)", sourceLocation: sourceLocation)
            }
            try await whileServing(url: url) { _ in
                let timeout = try await rpc("call", "math", "sleep", "60", "--timeout", "1", "--url", url)
                expect(timeout, 2, "no reply before the deadline")
                let unroutable = try await rpc("call", "nobody", "add", "[]", "--timeout", "60", "--url", url)
                expect(unroutable, 3, "no service \"nobody\"")
                expect(try await rpc("call", "math", "fail", #""oh no""#, "--url", url), 4, "oh no")
                expect(try await rpc("call", "math", "missing", "--url", url), 4, "missing")
                expect(try await rpc("call", "math", "add", #""x""#, "--url", url), 4, "undecodable")
            }
            // A port that was just free, and that nobody listens on.
            let nobody = "amqp://127.0.0.1:1"
            let refused = try await rpc("call", "math", "add", "[]", "--timeout", "1", "--url", nobody)
            expect(refused, 5, "rpc: not connected: cannot connect to amqp://127.0.0.1:1: connection refused\n")
            let missing = broker.url(virtualHost: "missing")
            let wrongHost = try await rpc("call", "math", "add", "[]", "--timeout", "5", "--url", missing)
            expect(wrongHost, 5, "refused the virtual host \"missing\": 530")
        }
    }

    @Test("A password is in nothing that is printed: wrong, logged, or in a URL that cannot be read")
    func passwords() async throws {
        try await TestBroker.withVirtualHost { broker, url, _ in
            let wrong = "amqp://guest:s3cret@127.0.0.1:\(broker.port)"
            let refused = try await rpc(
                "call",
                "math",
                "add",
                "[]",
                "--timeout",
                "5",
                "--verbose",
                "--url",
                wrong
            )
            #expect(refused.code == 5)
            #expect(refused.error.contains("refused the credentials: ACCESS_REFUSED"), "\(refused)")
            let server = try RunningTool(["serve", "math", "--verbose", "--url", wrong])
            await server.says("receiver cannot connect")
            server.signal(SIGTERM)
            let stopped = await server.ending()
            #expect(stopped.code == 0, "\(stopped)")
            let unreadable = try await rpc("call", "math", "add", "--url", "amqp://guest:s3cret@host:port")
            #expect(unreadable.code == 64, "\(unreadable)")
            for ending in [refused, stopped, unreadable] { #expect(!"\(ending)".contains("s3cret"), "\(ending)") }
            _ = url
        }
    }

    @Test(
        "Wrong usage has exit code 64, and a sentence that says what is wrong",
        arguments: [
            (["call", "math", "add", "[4, 9"], "is not JSON"),
            (["call", "math", "echo", "text"], "is not JSON"),
            (["call", "math", "add", "--url", "http://127.0.0.1"], "URL cannot be used"),
            (["call", "math", "add", "--url", "amqp://127.0.0.1:99999"], "URL cannot be used"),
            (["call", "math", "add", "[]", "--timeout", "0"], "--timeout"),
            (["call", "math"], "Missing expected argument"),
            (["serve", "math", "--concurrency", "0"], "--concurrency"),
            (["serve"], "Missing expected argument"),
            (["serve", ""], "the service's name must have 1 to 200 bytes"),
            (["serve", String(repeating: "x", count: 256), "--queue"], "the queue's name must have 1 to 255 bytes"),
            (["serve", "math", "--default", "sing"], "--default takes one of add, echo, fib, sleep, fail"),
            (["serve", "math", "--json", "--text"], "--text"),
            (["call", "math", "add", "[]", "--repeat", "0"], "--repeat"),
            (["call", "math", "add", "[]", "--interval", "-1"], "--interval"),
            (["call", "math", "add", "[]", "--loud"], "--loud"),
            (["sing"], "sing"),
        ]
    )
    func usage(_ arguments: [String], _ text: String) async throws {
        let ending = try await RunningTool(arguments).ending()
        #expect(ending.code == 64, "\(ending)")
        #expect(ending.output == "")
        #expect(ending.error.contains(text), "\(ending)")
    }

    @Test("The help lists the exit codes, on standard output")
    func help() async throws {
        let ending = try await rpc("call", "--help")
        #expect(ending.code == 0)
        // It is wrapped at the width of the terminal.
        let text = ending.output.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        for code in ["0 success", "2 no reply", "3 unroutable", "4 the", "5 no connection", "64 wrong usage"] {
            #expect(text.contains(code))
        }
    }
}
#endif
