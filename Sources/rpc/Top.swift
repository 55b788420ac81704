import AMQPPool
import ArgumentParser
import Foundation
import RPCWire
import SupervisionObserver
import Synchronization

struct Top: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show a program's trees, calls and events live, as reported by its observer.",
        discussion: """
            The program has an observer: rpc serve --observe, rpc demo --observe, or the product SupervisionObserver.

            In a terminal it fills the screen; ? shows its keys. Into a pipe it prints a line a second, and one for each event.

            Exit codes: 0 ended by you or by --count, 5 the observer cannot be reached, or has ended, 64 wrong usage.

            Examples:
              rpc top
              rpc top http://127.0.0.1:9570/
              rpc top 127.0.0.1:9570 --count 1 | cat
            """
    )

    static let defaultURL = "http://127.0.0.1:9570/"

    @Argument(help: "The address of the observer.")
    var url = Top.defaultURL

    @Option(help: ArgumentHelp("Print that many lines of numbers, and end. Not in a terminal.", valueName: "lines"))
    var count: Int?

    @Flag(help: "Print lines even in a terminal.")
    var plain = false

    func validate() throws {
        do throws(ObserverClient.Failure) {
            _ = try ObserverClient(url: url)
        } catch {
            throw ValidationError("\(error)")
        }
        if let count, count < 1 { throw ValidationError("--count must be at least 1, but is \(count)") }
    }

    func run() async throws {
        let client = try ObserverClient(url: url)
        do {
            if plain || count != nil || !Terminal.isThere {
                try await printLines(client)
            } else {
                try await TopSession(client).run()
            }
        } catch let failure as ObserverClient.Failure {
            Environment.writeError("rpc: \(failure)")
            Environment.writeError(
                "     A program shows itself with rpc serve --observe, or with the product SupervisionObserver."
            )
            throw ToolExit.connection
        }
    }

    private func printLines(_ client: ObserverClient) async throws {
        var lines = 0
        try await client.follow { message in
            switch message.name {
            case "overview":
                let overview = try JSONDecoder().decode(Overview.self, from: Data(message.data.utf8))
                Environment.writeOutput("\(Clock.text(overview.time))  \(TopScreen.summary(overview))".escaped)
                lines += 1
            case "change":
                let event = try JSONDecoder().decode(EventDocument.self, from: Data(message.data.utf8))
                Environment.writeOutput(TopScreen.text(event).escaped)
            default: break
            }
            return count.map { lines < $0 } ?? true
        }
        if count.map({ lines < $0 }) ?? true { throw ObserverClient.Failure.unreachable("it ended") }
    }
}

/// The screen of `rpc top`, connected to the terminal and the observer.
private final class TopSession: Sendable {
    private let client: ObserverClient
    private let screen = Mutex(TopScreen())
    private let terminal = Terminal()
    private let isColoured = Environment.showsColours

    init(_ client: ObserverClient) {
        self.client = client
    }

    func run() async throws {
        defer { terminal.restore() }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await self.follow() }
            group.addTask { await self.keys() }
            // Whichever ends first ends the other: the keys end on q.
            _ = try await group.next()
            group.cancelAll()
        }
    }

    private func follow() async {
        while !Task.isCancelled {
            do {
                try await client.follow { [self] message in
                    try await heard(message)
                    return !Task.isCancelled
                }
                screen.withLock { $0.problem = "the observer ended; trying again" }
            } catch {
                screen.withLock { $0.problem = "\(error)" }
            }
            draw()
            try? await Task.sleep(for: .seconds(1))
        }
    }

    private func heard(_ message: ObserverClient.Message) async throws {
        switch message.name {
        case "overview":
            let overview = try JSONDecoder().decode(Overview.self, from: Data(message.data.utf8))
            let isShown = screen.withLock { screen in
                screen.problem = nil
                return screen.show(overview)
            }
            if isShown { await load() }
        case "change":
            let event = try JSONDecoder().decode(EventDocument.self, from: Data(message.data.utf8))
            screen.withLock { $0.add(event) }
            draw()
        default: return
        }
    }

    private func load() async {
        let height = terminal.size.height
        let (request, view) = screen.withLock { screen in
            screen.height = max(1, height - TopScreen.frame)
            return (screen.request, screen.view)
        }
        let page: TreePage? = try? await client.post("api/tree", request)
        let traffic: TrafficPage? = view == .calls ? try? await client.get("api/traffic") : nil
        let workers: WorkersPage? = view == .workers ? try? await client.get("api/workers?limit=100") : nil
        screen.withLock { screen in
            // The request may have changed in the meantime.
            if let page, screen.request == request { screen.page = page }
            if let traffic { screen.traffic = traffic }
            if let workers { screen.workers = workers }
        }
        draw()
    }

    private func draw() {
        let (width, height) = terminal.size
        let lines = screen.withLock { $0.lines(width: width, height: height) }
        terminal.draw(lines, isColoured: isColoured)
    }

    /// Returns when the session is over.
    private func keys() async {
        let (stream, continuation) = AsyncStream.makeStream(of: [UInt8].self)
        let isOver = Mutex(false)
        let reading = { @Sendable [terminal] in
            while !isOver.withLock({ $0 }) {
                guard let bytes = terminal.read() else { continue }
                if bytes.isEmpty { break }
                continuation.yield(bytes)
            }
            continuation.finish()
        }
        Thread.detachNewThread(reading)
        defer { isOver.withLock { $0 = true } }
        var reader = KeyReader()
        for await bytes in stream {
            for key in reader.take(bytes) {
                let (action, view) = screen.withLock { ($0.handle(key), $0.view) }
                switch action {
                case .quit: return
                case .load: await load()
                case nil: if view == .calls || view == .workers { await load() } else { draw() }
                }
            }
        }
    }
}
