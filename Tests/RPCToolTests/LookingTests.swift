#if os(Linux)
import AMQPPool
import BrokerSupport
import Foundation
import LocalBroker
import NIOCore
import Testing

@Suite("rpc looks at a broker and at programs", .serialized)
struct LookingTests {
    @Test("ls and describe tell a service's consumers and backlog, and that one is not there")
    func services() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await whileServing(url: url) { _ in
                let list = try await rpc("ls", "math", "nobody", "--url", url)
                #expect(list.code == 3, "\(list)")
                #expect(list.output.contains("SERVICE  CONSUMERS  WAITING\nmath     2          0\n"), "\(list)")
                #expect(list.error.contains("no service \"nobody\""), "\(list)")
                let json = try await rpc("ls", "math", "--json", "--url", url)
                #expect(json.output == #"[{"consumers":2,"service":"math","waiting":0}]"# + "\n", "\(json)")
                let described = try await rpc("describe", "math", "--url", url)
                #expect(described.code == 0 && described.output.contains("math.rpcs"), "\(described)")
                let missing = try await rpc("describe", "nobody", "--url", url)
                #expect(missing.code == 3, "\(missing)")
                // The test's broker has no management plugin.
                let all = try await rpc("ls", "--url", url, "--management", "http://127.0.0.1:1")
                #expect(all.code == 5 && all.error.contains("rabbitmq_management"), "\(all)")
                #expect(!all.error.contains("guest:guest"))
            }
        }
    }

    @Test("a cast arrives with its headers, and tail sees it without taking it")
    func castAndTail() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await whileServing(url: url) { _ in
                let tail = try RunningTool(["tail", "math.rpcs", "--count", "1", "--body", "--url", url])
                defer { tail.signal(SIGKILL) }
                await tail.says("looking at requests")
                let cast = try await rpc("cast", "math", "echo", #""hello""#, "--header", "tenant=blue", "--url", url)
                #expect(cast.code == 0 && cast.output == "", "\(cast)")
                let seen = await tail.ending()
                #expect(seen.code == 0 && seen.output.contains("echo") && seen.output.contains(#""hello""#), "\(seen)")
                let call = try await rpc("call", "math", "add", "[4, 9]", "--header", "tenant=blue", "--url", url)
                #expect(call.output == "13\n", "\(call)")
            }
        }
    }

    @Test("what others named, or wrote into messages, does not steer the terminal")
    func hostile() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let name = "a\u{1B}[2J\u{9B}31m\u{202E}b"
            try await broker.declareQueue("\(name).rpcs", virtualHost: virtualHost)
            try await whileServing(url: url) {
                $0.signal(SIGTERM); _ = await $0.ending()
            }
            let connection = try await AMQPConnection.open(try Endpoint(url: url))
            let channel = try await connection.openChannel()
            try await channel.publish(
                ByteBuffer(string: name),
                properties: MessageProperties(headers: ["procedure": .string(name)], messageID: name, type: name),
                routingKey: "math.rpcs",
                mandatory: true
            )
            await connection.close()
            for arguments in [
                ["ls", name], ["ls", name, "--json"], ["describe", name], ["tail", "\(name).rpcs", "--waiting"],
                ["tail", "math.rpcs", "--waiting", "--body"],
            ] {
                let seen = try await RunningTool(arguments + ["--url", url]).ending()
                let text = seen.output + seen.error
                #expect(!text.isEmpty)
                #expect(
                    !text.unicodeScalars.contains { $0 == "\u{1B}" || $0 == "\u{9B}" || $0 == "\u{202E}" },
                    "\(arguments): \(text.debugDescription)"
                )
            }
        }
    }

    @Test("what waits in a queue is looked at and still waits afterwards, and bodies are not shown unless asked for")
    func waiting() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            try await whileServing(url: url) {
                $0.signal(SIGTERM); _ = await $0.ending()
            }
            let sent = try await rpc("cast", "math", "echo", #""secret""#, "--url", url)
            #expect(sent.code == 0, "\(sent)")
            for _ in 0..<2 {
                let seen = try await rpc("tail", "math.rpcs", "--waiting", "--url", url)
                #expect(seen.code == 0 && seen.output.contains("echo"), "\(seen)")
                #expect(!seen.output.contains("secret"), "\(seen)")
            }
            let list = try await rpc("ls", "math", "--json", "--url", url)
            #expect(list.output.contains(#""waiting":1"#), "\(list)")
            let missing = try await rpc("tail", "nothing", "--url", url)
            #expect(missing.code == 3, "\(missing)")
        }
    }

    #if Observer
    @Test("serve shows itself where it says, top reads it, and the token is nowhere")
    func observe() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let token = "0123456789abcdef"
            let server = try RunningTool(
                ["serve", "math", "--url", url, "--observe", "127.0.0.1:0"],
                environment: ["RPC_OBSERVE_TOKEN": token]
            )
            defer { server.signal(SIGKILL) }
            await server.says("observer: http://127.0.0.1:")
            await server.says("serving \"math\"")
            let said = server.saidOnError
            let page = try #require(said.split(separator: "\n").first { $0.hasPrefix("observer: ") }?.dropFirst(10))
            let top = try await rpc("top", String(page), "--count", "2")
            #expect(top.code == 0, "\(top)")
            #expect(top.output.contains("processes "), "\(top)")
            #expect(top.output.contains("requests "), "\(top)")
            server.signal(SIGTERM)
            let ending = await server.ending()
            #expect(ending.code == 0, "\(ending)")
            #expect(!"\(ending)".contains(token))
        }
    }
    #endif

    @Test("top says that nobody is there, and completions are written where the shell looks for them")
    func others() async throws {
        let nobody = try await rpc("top", "http://127.0.0.1:1/", "--count", "1")
        #expect(nobody.code == 5 && nobody.error.contains("cannot be reached"), "\(nobody)")
        let home = FileManager.default.temporaryDirectory.appending(path: "rpc-completions-\(UUID())")
        try FileManager.default.createDirectory(at: home, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: home) }
        let files = [
            ("bash", ".local/share/bash-completion/completions/rpc"), ("zsh", ".zsh/completions/_rpc"),
            ("fish", ".config/fish/completions/rpc.fish"),
        ]
        for (shell, path) in files {
            let written = try await rpc("completions", environment: ["SHELL": "/bin/\(shell)", "HOME": home.path])
            #expect(written.code == 0, "\(written)")
            let script = try String(contentsOf: home.appending(path: path), encoding: .utf8)
            #expect(script.contains("serve"))
            let printed = try await rpc("completions", "--shell", shell, "--print")
            #expect(printed.output == script)
        }
    }

    @Test(
        "Wrong usage has exit code 64",
        arguments: [
            ["top", "https://host/"], ["top", "amqp://host"], ["top", "host:99999"], ["top", "--count", "0"],
            ["tail"], ["tail", "q", "--count", "0"], ["cast", "math"], ["cast", "math", "add", "[4"],
            ["call", "math", "add", "[]", "--header", "tenant"], ["call", "math", "add", "[]", "--header", "=x"],
            ["call", "math", "add", "[]", "--header", "destination=x"], ["serve", "math", "--observe", "9570"],
            ["serve", "math", "--observe", "host:99999"], ["serve", "math", "--observe-token", "0123456789abcdef"],
            ["completions", "--shell", "tcsh"],
        ]
    )
    func usage(arguments: [String]) async throws {
        let ending = try await RunningTool(arguments).ending()
        #expect(ending.code == 64, "\(ending)")
    }
}
#endif
