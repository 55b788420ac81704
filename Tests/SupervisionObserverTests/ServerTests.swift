#if Observer
import Foundation
import Logging
import NIOCore
import NIOPosix
import RPCCaller
import RPCReceiver
import RPCTesting
import Supervision
import Synchronization
import Testing

@testable import SupervisionObserver

@Suite("The observer's server")
struct ServerTests {
    @Test("the page is one file that a browser may load nothing else into, and its number is another each time")
    func page() async throws {
        try await Served.run { served in
            let answer = try await served.client.request("GET", "")
            #expect(answer.status == 200)
            #expect(answer.header("Content-Type") == "text/html; charset=utf-8")
            let policy = try #require(answer.header("Content-Security-Policy"))
            for part in [
                "default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'",
                "form-action 'none'",
                "require-trusted-types-for 'script'",
            ] {
                #expect(policy.contains(part))
            }
            #expect(!policy.contains("unsafe"))
            let nonce = try #require(policy.split(separator: "'nonce-").dropFirst().first?.prefix { $0 != "'" })
            #expect(answer.text.contains("<script nonce=\"\(nonce)\">"))
            #expect(!answer.text.contains("NONCE"))
            #expect(!answer.text.contains("src=") && !answer.text.contains("innerHTML"))
            #expect(try await served.client.request("GET", "").header("Content-Security-Policy") != policy)
            for name in [
                "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy", "Cross-Origin-Resource-Policy",
            ] {
                #expect(answer.header(name) != nil)
            }
            #expect(answer.header("Cache-Control") == "no-store")
            #expect(answer.header("Access-Control-Allow-Origin") == nil)
        }
    }

    @Test("no process that is started later inherits the port that it listens on")
    func closeOnExec() async throws {
        try await Served.run { served in
            let port = try #require(URL(string: served.url)?.port)
            let flags = (0..<CInt(4096)).compactMap { descriptor -> CInt? in
                var address = sockaddr_in()
                var size = socklen_t(MemoryLayout<sockaddr_in>.size)
                let result = withUnsafeMutablePointer(to: &address) {
                    $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &size) }
                }
                var isListening: CInt = 0
                size = socklen_t(MemoryLayout<CInt>.size)
                guard result == 0, Int(UInt16(bigEndian: address.sin_port)) == port,
                    getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &isListening, &size) == 0, isListening == 1
                else { return nil }
                return fcntl(descriptor, F_GETFD)
            }
            #expect(flags.map { $0 & FD_CLOEXEC } == [FD_CLOEXEC])
        }
    }

    @Test("the documents tell of the tree, its processes and what happened")
    func documents() async throws {
        try await Served.run { served in
            let overview: Overview = try await served.client.get("api/overview")
            #expect(overview.trees.map(\.name) == ["app"])
            #expect(overview.trees[0].processes == 5)
            #expect(!overview.allowsActions)
            let page: TreePage = try await served.client.post("api/tree", TreeRequest(tree: 0, query: "worker"))
            let row = try #require(page.page.last)
            #expect(row.key == "app/inner/worker")
            let process: ProcessPage = try await served.client.get("api/process?tree=0&key=app%2Finner%2Fworker")
            #expect(process.row.pid == row.pid)
            #expect(process.description == [.init(name: "state", value: "fine")])
            #expect(process.specification.contains(.init(name: "restart", value: "permanent")))
            try served.supervisor.child("inner", "worker", as: Served.Worker.self).pid?.kill()
            let events = try await served.events { events in events.contains { $0.kind == "restarting" } }
            #expect(events.contains { $0.kind == "exited" && $0.reason == "killed" && $0.path == "app/inner/worker" })
            let missing = try await served.client.request("GET", "api/process?tree=0&key=app%2Fnone")
            #expect(missing.status == 404)
            #expect(try await served.client.request("GET", "api/process?tree=99&key=app").status == 404)
        }
    }

    @Test("a viewer hears at once of what happens, and gets the state of all each second")
    func stream() async throws {
        try await Served.run { served in
            let (events, continuation) = AsyncStream.makeStream(of: ObserverClient.Message.self)
            let following = Task {
                try await served.client.follow { message in
                    continuation.yield(message)
                    return true
                }
            }
            var hasKilled = false
            var wasStarted = false
            for await message in events {
                if message.name == "overview", !hasKilled {
                    let overview = try JSONDecoder().decode(Overview.self, from: Data(message.data.utf8))
                    #expect(overview.viewers == 1)
                    hasKilled = true
                    try served.supervisor.child("inner", "worker", as: Served.Worker.self).pid?.kill()
                }
                guard message.name == "change" else { continue }
                let event = try JSONDecoder().decode(EventDocument.self, from: Data(message.data.utf8))
                if event.kind == "started", event.path == "app/inner/worker" {
                    wasStarted = true
                    break
                }
            }
            #expect(wasStarted)
            following.cancel()
            _ = await following.result
        }
    }

    @Test("nobody of another origin or by another name gets anything, from any route")
    func strangers() async throws {
        try await Served.run(permission: .actions(Served.token)) { served in
            let routes: [(String, String, [UInt8])] = [
                ("GET", "", []), ("GET", "api/overview", []), ("POST", "api/tree", Array(#"{"tree":0}"#.utf8)),
                ("GET", "api/process?tree=0&key=app", []), ("GET", "api/events", []), ("GET", "api/traffic", []),
                ("GET", "api/workers", []), ("GET", "api/stream", []),
                ("POST", "api/action", Array(#"{"action":"kill","tree":0,"key":"app"}"#.utf8)),
            ]
            let strangers: [[(String, String)]] = [
                [("Host", "evil.example")], [("Host", "evil.example:\(served.client.port)")],
                [("Origin", "http://evil.example")], [("Origin", "null")],
                [("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "cors")],
            ]
            for (method, path, body) in routes {
                for headers in strangers {
                    let always = [("Content-Type", "application/json"), ("Authorization", "Bearer \(Served.token)")]
                    let answer = try await served.client.request(method, path, headers: headers + always, body: body)
                    #expect(answer.status == 403, "\(method) \(path) \(headers)")
                    #expect(!answer.text.contains("worker"), "\(method) \(path) \(headers)")
                    #expect(answer.header("Access-Control-Allow-Origin") == nil)
                }
            }
            #expect(served.supervisor.pid?.isAlive == true)
        }
    }

    @Test("without a token, with a wrong one, or where nobody may act, nothing is done")
    func noToken() async throws {
        let actions = ActionRequest.Action.allCases.map { ActionRequest(action: $0, tree: 0, key: "app/inner/worker") }
        try await Served.run(permission: .actions(Served.token)) { served in
            let pid = try served.supervisor.child("inner", "worker", as: Served.Worker.self).pid
            for action in actions {
                for token in [nil, "", "wrong", Served.token + "0", String(Served.token.dropLast())] {
                    await #expect(throws: ObserverClient.Failure.self) {
                        let _: ActionResult = try await served.client.post("api/action", action, token: token)
                    }
                }
                let form = try await served.client.request(
                    "POST",
                    "api/action",
                    headers: [("Content-Type", "text/plain"), ("Authorization", "Bearer \(Served.token)")],
                    body: Array(try JSONEncoder().encode(action))
                )
                #expect(form.status == 415)
            }
            #expect(try await served.client.request("GET", "api/action").status != 200)
            #expect(try served.supervisor.child("inner", "worker", as: Served.Worker.self).pid == pid)
        }
        try await Served.run { served in
            let pid = try served.supervisor.child("inner", "worker", as: Served.Worker.self).pid
            for action in actions {
                await #expect(throws: ObserverClient.Failure.self) {
                    let _: ActionResult = try await served.client.post("api/action", action, token: Served.token)
                }
            }
            #expect(try served.supervisor.child("inner", "worker", as: Served.Worker.self).pid == pid)
        }
    }

    @Test(
        "with the token processes are killed, ended, restarted and terminated, each once and only the one that was seen"
    )
    func actions() async throws {
        try await Served.run(permission: .actions(Served.token)) { served in
            let worker = try served.supervisor.child("inner", "worker", as: Served.Worker.self)
            func act(_ action: ActionRequest.Action, pid: Pid? = nil) async throws -> ActionResult {
                let request = ActionRequest(
                    action: action,
                    tree: 0,
                    key: "app/inner/worker",
                    pid: pid.map { "\($0)" }
                )
                return try await served.client.post("api/action", request, token: Served.token)
            }
            let first = try #require(worker.pid)
            _ = try await act(.kill, pid: first)
            _ = await first.exited()
            _ = await served.supervisor.testing.settled()
            let second = try #require(worker.pid)
            #expect(second != first)
            await #expect(throws: ObserverClient.Failure.self) { _ = try await act(.kill, pid: first) }
            #expect(worker.pid == second)
            _ = try await act(.exit, pid: second)
            _ = await second.exited()
            _ = await served.supervisor.testing.settled()
            let third = try #require(worker.pid)
            _ = try await act(.restart)
            let fourth = try #require(worker.pid)
            #expect(fourth != third)
            _ = try await act(.terminate)
            #expect(worker.pid == nil)
            await #expect(throws: ObserverClient.Failure.self) { _ = try await act(.kill) }
            await #expect(throws: ObserverClient.Failure.self) { _ = try await act(.pause) }
            let events = try await served.events { $0.count { $0.kind == "action" } >= 4 }
            #expect(events.contains { $0.kind == "action" && $0.reason?.hasPrefix("kill") == true })
            let root = ActionRequest(action: .terminate, tree: 0, key: "app")
            await #expect(throws: ObserverClient.Failure.self) {
                let _: ActionResult = try await served.client.post("api/action", root, token: Served.token)
            }
            let dynamic: Pid? = try await served.supervisor.dynamicSupervisor("sessions")
                .startChild(Child("s") { _ in Served.Plain() })
            // A snapshot is used again for a moment.
            var page: TreePage
            repeat {
                page = try await served.client.post("api/tree", TreeRequest(tree: 0, query: "s#"))
            } while page.matches == 0
            let key = try #require(page.page.last?.key)
            let end = ActionRequest(action: .terminate, tree: 0, key: key)
            let _: ActionResult = try await served.client.post("api/action", end, token: Served.token)
            #expect(dynamic?.isAlive == false)
        }
    }

    @Test("a kill matrix is played only on a tree that allows it, and kills every process but the root")
    func killMatrix() async throws {
        let request = ActionRequest(action: .killMatrix, tree: 0)
        try await Served.run(permission: .actions(Served.token)) { served in
            await #expect(throws: ObserverClient.Failure.self) {
                let _: ActionResult = try await served.client.post("api/action", request, token: Served.token)
            }
        }
        try await Served.run(permission: .actions(Served.token), mayPlay: true) { served in
            let before = try #require(served.supervisor.snapshot())
            let _: ActionResult = try await served.client.post("api/action", request, token: Served.token)
            let events = try await served.events { events in
                events.contains { $0.kind == "kill matrix" && $0.path == "app" }
            }
            let steps = events.filter { $0.kind == "kill matrix" }
            #expect(steps.count == before.nodes.count)
            #expect(steps.allSatisfy { $0.isExpected })
            #expect(served.supervisor.pid == before.nodes[0].pid)
            let after = try #require(served.supervisor.snapshot())
            #expect(Set(after.nodes.dropFirst().compactMap(\.pid)).isDisjoint(with: before.nodes.compactMap(\.pid)))
        }
    }

    @Test("neither arguments nor results nor headers of calls appear in any document", .timeLimit(.minutes(2)))
    func payloads() async throws {
        let secret = "TOP-SECRET-4711"
        let entered = AsyncStream<Void>.makeStream()
        let procedures = RPCHandlers {
            RPCHandler("slow") { (text: String, _) -> String in
                entered.continuation.yield()
                try await Task.sleep(for: .seconds(600))
                return text
            }
            RPCHandler("echo") { (text: String, _) -> String in text + secret }
            RPCHandler("fail") { (text: String, _) -> String in throw RPCFailure(code: "mine", message: text) }
        }
        let (caller, receiver) = RPCPair.make(procedures)
        try await Served.run(callers: [caller], receivers: [receiver]) { served in
            let following = Task { try await served.client.follow { _ in true } }
            while !caller.observation.isWatched { await Task.yield() }
            let slow = Task { let _: String = try await caller.call("math", "slow", secret, timeout: .seconds(60)) }
            for await _ in entered.stream { break }
            let _: String = try await caller.call("math", "echo", secret)
            _ = try? await caller.call("math", "fail", secret, as: String.self)
            var documents = ""
            for path in ["api/overview", "api/traffic", "api/events"] {
                documents += try await served.client.request("GET", path).text
            }
            for path in ["caller", "caller/registry", "receiver"] {
                documents += try await served.client.request("GET", "api/process?tree=0&key=\(path)").text
            }
            #expect(documents.contains("echo"))
            #expect(!documents.contains(secret))
            slow.cancel()
            following.cancel()
            _ = await following.result
            _ = await slow.result
        }
    }

    @Test("a viewer that reads nothing costs a bounded queue, and one too many is told to come later")
    func slowViewer() async throws {
        try await Served.run(maximumViewers: 2) { served in
            // It asks for the stream and never reads.
            let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .channelOption(.autoRead, value: false)
                .channelOption(.socketOption(.so_rcvbuf), value: 4096)
                .connect(host: "127.0.0.1", port: served.client.port).get()
            try await channel.writeAndFlush(
                ByteBuffer(string: "GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            )
            while served.observer.observation.broadcast.count < 1 { await Task.yield() }
            let text = String(repeating: "x", count: 1000)
            while served.observer.observation.broadcast.dropped < 100 {
                served.observer.observation.record(tree: 0, path: "app", key: "app", kind: "action", reason: text)
                await Task.yield()
            }
            // However much there is to say, no more waits than the queue holds, and the newest state of all.
            #expect(served.observer.observation.broadcast.waiting <= ViewerBroadcast.queueLimit + 1)
            let second = Task { try await served.client.follow { _ in true } }
            while served.observer.observation.broadcast.count < 2 { await Task.yield() }
            #expect(try await served.client.request("GET", "api/stream").status == 503)
            second.cancel()
            _ = await second.result
            try? await channel.close()
        }
    }

    @Test("with nobody looking calls are not counted and only failures are heard")
    func quiet() async throws {
        let (caller, receiver) = RPCPair.make(RPCHandlers { RPCHandler("echo") { (text: String, _) in text } })
        try await Served.run(callers: [caller], receivers: [receiver]) { served in
            #expect(!caller.observation.isWatched)
            let following = Task { try await served.client.follow { _ in true } }
            while !caller.observation.isWatched || !receiver.observation.isWatched { await Task.yield() }
            following.cancel()
            _ = await following.result
            // The server learns of it when it writes the next second's message.
            while caller.observation.isWatched { try await Task.sleep(for: .milliseconds(10)) }
            #expect(!receiver.observation.isWatched)
        }
    }

    @Test("who loads the page again finds the numbers of the last minute, and later they are dropped")
    func grace() async throws {
        let (caller, receiver) = RPCPair.make(RPCHandlers { RPCHandler("echo") { (text: String, _) in text } })
        try await Served.run(callers: [caller], receivers: [receiver], statisticsGrace: .seconds(3600)) { served in
            func look(_ body: () async throws -> Void) async throws {
                let following = Task { try await served.client.follow { _ in true } }
                while served.observer.observation.broadcast.count < 1 { await Task.yield() }
                while !caller.observation.isWatched { await Task.yield() }
                try await body()
                following.cancel()
                _ = await following.result
                while served.observer.observation.broadcast.count > 0 { try await Task.sleep(for: .milliseconds(10)) }
            }
            try await look { let _: String = try await caller.call("math", "echo", "a") }
            #expect(caller.observation.isWatched)
            let _: String = try await caller.call("math", "echo", "b")
            try await look {}
            let overview: Overview = try await served.client.get("api/overview")
            #expect(overview.callers[0].calls?.total == 2)
            #expect(overview.receivers[0].requests?.total == 2)
        }
    }

    @Test("settings that cannot be right and a port that is taken are errors before anything is served")
    func errors() async throws {
        for change: @Sendable (inout ObserverConfiguration) -> Void in [
            { $0.port = -1 }, { $0.port = 70_000 }, { $0.host = "" }, { $0.maximumViewers = 0 },
            { $0.maximumConnections = 1 }, { $0.permission = .actions("short") },
        ] {
            var configuration = ObserverConfiguration()
            change(&configuration)
            let observer = Observer(configuration: configuration)
            await #expect(throws: ObserverError.self) { try await observer.run() }
        }
        try await Served.run { served in
            var configuration = ObserverConfiguration()
            configuration.port = served.client.port
            await #expect(throws: ObserverError.self) { try await Observer(configuration: configuration).run() }
        }
    }

    @Test(
        "hostile requests end in an error of HTTP, and the observer goes on",
        arguments: [
            "GET /api/process?tree=0&key=%00%ff HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            "GET /api/process?tree=99999999999999999999&key=app HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            "GET /api/events?limit=-9223372036854775808&after=-1&tree=-1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            "POST /api/tree HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 3\r\nConnection: close\r\n\r\n[[[",
            "POST /api/tree HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 90000000\r\nConnection: close\r\n\r\n{",
            "GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n", "NONSENSE\r\n\r\n",
        ]
    )
    func hostile(request: String) async throws {
        try await Served.run { served in
            let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connect(host: "127.0.0.1", port: served.client.port).get()
            try await channel.writeAndFlush(ByteBuffer(string: request))
            try? await channel.close()
            let overview: Overview = try await served.client.get("api/overview")
            #expect(overview.trees.count == 1)
        }
    }
}

/// A caller and a receiver without a broker.
enum RPCPair {
    static func make(_ procedures: RPCHandlers) -> (RPCCaller, RPCReceiver) {
        let receiver = RPCReceiver(
            service: "math",
            configuration: RPCReceiverConfiguration(endpoints: []),
            logger: Served.quiet,
            procedures: procedures
        )
        let caller = RPCCaller.inProcess(receivers: [receiver], logger: Served.quiet)
        return (caller, receiver)
    }
}
#endif
