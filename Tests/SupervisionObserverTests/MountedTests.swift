#if Observer
import HTTPTypes
import Hummingbird
import NIOCore
import RPCCaller
import ServiceLifecycle
import Supervision
import Testing

@testable import SupervisionObserver

@Suite("The observer in a router that is there already")
struct MountedTests {
    /// What guards a router: everybody needs the header.
    private struct Guard<Context: RequestContext>: RouterMiddleware {
        func handle(
            _ request: Request,
            context: Context,
            next: (Request, Context) async throws -> Response
        ) async throws -> Response {
            guard let name = HTTPField.Name("X-Staff"), request.headers[name] == "yes" else {
                throw HTTPError(.unauthorized)
            }
            return try await next(request, context)
        }
    }

    private struct OwnContext: RequestContext {
        var coreContext: CoreRequestContextStorage

        init(source: Source) { coreContext = .init(source: source) }
    }

    private func serve<Responder: HTTPResponder>(
        _ observer: Observer,
        _ responder: Responder,
        _ body: (_ port: Int) async throws -> Void
    ) async throws where Responder.Context: InitializableFromSource<ApplicationRequestContextSource> {
        let (ports, continuation) = AsyncStream.makeStream(of: Int.self)
        let server = Application(
            responder: responder,
            configuration: .init(address: .hostname("127.0.0.1", port: 0)),
            services: [observer.listener],
            onServerRunning: { channel in continuation.yield(channel.localAddress?.port ?? 0) },
            logger: Served.quiet
        )
        let group = ServiceGroup(services: [server], logger: Served.quiet)
        let running = Task { try await group.run() }
        var iterator = ports.makeAsyncIterator()
        let first = await iterator.next()
        let port = try #require(first)
        do {
            try await body(port)
        } catch {
            await group.triggerGracefulShutdown()
            throw error
        }
        await group.triggerGracefulShutdown()
        _ = await running.result
    }

    @Test("the routes are below a group's path, beside the routes that were there, and behind what guards them")
    func grouped() async throws {
        let supervisor = Served.tree()
        try await supervisor.start()
        let observer = Observer(trees: [supervisor], allowing: .actions(Served.token), logger: Served.quiet)
        let router = Router(context: OwnContext.self)
        router.get("hello") { _, _ in "hello" }
        observer.addRoutes(to: router.group("ops/observer").add(middleware: Guard()))
        try await serve(observer, router.buildResponder()) { port in
            let client = try ObserverClient(url: "127.0.0.1:\(port)/ops/observer/")
            let root = try ObserverClient(url: "127.0.0.1:\(port)/")
            let staff = [("X-Staff", "yes")]
            #expect(try await root.request("GET", "hello").text == "hello")
            for path in ["", "api/overview", "api/stream", "api/workers", "api/traffic"] {
                #expect(try await client.request("GET", path).status == 401)
            }
            #expect(try await client.request("GET", "", headers: staff).text.contains("<title>Observer"))
            #expect(try await root.request("GET", "ops/observer", headers: staff).text.contains("<title>Observer"))
            #expect(try await client.request("GET", "api/overview", headers: staff).text.contains("app"))
            // The checks of the observer's own come with it.
            let foreign = staff + [("Host", "evil.example")]
            #expect(try await client.request("GET", "api/overview", headers: foreign).status == 403)
            #expect(
                try await client.request(
                    "POST",
                    "api/action",
                    headers: staff + [("Content-Type", "application/json")],
                    body: Array(#"{"action":"kill","tree":0,"key":"app/inner/worker"}"#.utf8)
                ).status == 401
            )
            let worker = try supervisor.child("inner", "worker", as: Served.Worker.self)
            let first = try #require(worker.pid)
            let killed = try await client.request(
                "POST",
                "api/action",
                headers: staff + [("Content-Type", "application/json"), ("Authorization", "Bearer \(Served.token)")],
                body: Array(#"{"action":"kill","tree":0,"key":"app/inner/worker"}"#.utf8)
            )
            #expect(killed.status == 200)
            _ = await first.exited()
            // The listener remembers it although nobody looked.
            var events = ""
            while !events.contains("killed") {
                events = try await client.request("GET", "api/events", headers: staff).text
                try await Task.sleep(for: .milliseconds(10))
            }
        }
        await supervisor.stop()
    }

    @Test(
        "a browser that opens it below a path, with and without a slash at the end, sees it live",
        .enabled(if: Browser.program != nil)
    )
    func opened() async throws {
        let supervisor = Served.tree()
        try await supervisor.start()
        let observer = Observer(trees: [supervisor], logger: Served.quiet)
        let router = Router()
        router.get("/") { _, _ in "mine" }
        observer.addRoutes(to: router.group("observer"))
        try await serve(observer, router.buildResponder()) { port in
            try await Browser.run { browser in
                for path in ["observer", "observer/"] {
                    try await browser.open("http://127.0.0.1:\(port)/\(path)")
                    try await browser.wait("document.querySelector('#live')?.classList.contains('live')")
                    try await browser.wait("document.querySelectorAll('.row').length == 5")
                }
                #expect(try await browser.report().errors.isEmpty)
            }
        }
        await supervisor.stop()
    }
}
#endif
