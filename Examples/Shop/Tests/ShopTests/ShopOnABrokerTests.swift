import AMQPPool
import Foundation
import Hummingbird
import LocalBroker
import Logging
import QueueWorkers
import ShopContract
import ShopServices
import Supervision
import Synchronization
import Testing

#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// All services in one process, on a private broker. `Examples/run --rolling` runs them in separate processes.
@Suite("The shop, on a broker")
struct ShopOnABrokerTests {
    @Test("an order goes through all services, and its letter to the mailer; probes tell of a broker that is restarted")
    func everything() async throws {
        let log = LinesLog()
        do {
            try await play(log)
        } catch {
            Issue.record("\(error), and the log:\n\(log.text)")
        }
    }

    private func play(_ log: LinesLog) async throws {
        let broker = try await LocalBroker.start()
        func pool() throws -> AMQPPool { AMQPPool(endpoints: [try Endpoint(url: broker.url)], logger: log.logger) }

        let (front, caller) = Front.tree(on: try pool(), logger: log.logger)
        let catalog = CatalogService.tree(on: try pool(), logger: log.logger).supervisor
        let orders = OrderService.tree(on: try pool(), logger: log.logger).supervisor
        let mailer = Mailer.tree(on: try pool(), retry: .after([.milliseconds(20)], then: .park), logger: log.logger)
        let trees = [mailer, catalog, orders, front]
        for tree in trees { try await tree.start() }

        let router = Router()
        Front.addRoutes(caller, to: router)
        Front.addProbes(of: [front, caller], to: router)
        let (ports, port) = AsyncStream.makeStream(of: Int.self)
        let server = Application(
            router: router,
            configuration: .init(address: .hostname("127.0.0.1", port: 0)),
            onServerRunning: { port.yield($0.localAddress?.port ?? 0) },
            logger: log.logger
        )
        let serving = Task {
            defer { port.finish() }
            try await server.run()
        }
        let web = Web(port: try #require(await ports.first { _ in true }))

        try await web.wait(for: 200, "/ready")
        // The other services run when an order is accepted; an order with the same id is the same order.
        try await web.wait(for: 200, "/orders", NewOrder(id: "1", product: "tea", count: 3, mail: "ada@example.com"))
        let (status, body) = try await web.ask("/products/tea")
        #expect(status == 200)
        #expect(try JSONDecoder().decode(Product.self, from: body).cents == 750)
        #expect(try await web.ask("/products/boat").0 == 404)
        #expect(try await web.ask("/orders", NewOrder(id: "2", product: "tea", count: 0, mail: "x")).0 == 400)
        #expect(
            try await web.ask("/orders", NewOrder(id: "3", product: "pot", count: 1, mail: "x@refused.example")).0
                == 200
        )
        try await log.wait(for: "a letter is sent")
        try await log.wait(for: "a message is given up")
        try await log.wait(for: "it is moved to shop.mails.failed")

        // The broker is stopped: the front end is live but not ready, and refuses an order with the reason. Then the broker is back.
        await broker.stop()
        try await web.wait(for: 503, "/ready")
        #expect(try await web.ask("/live").0 == 200)
        #expect([502, 503, 504].contains(try await web.ask("/products/tea").0))
        try await broker.startAgain()
        try await web.wait(for: 200, "/orders", NewOrder(id: "4", product: "tea", count: 1, mail: "ada@example.com"))

        serving.cancel()
        _ = await serving.result
        for tree in trees.reversed() { await tree.stop() }
        await broker.shutdown()
    }
}

/// An HTTP client of the front end.
struct Web {
    struct Unexpected: Error {
        var path: String
        var status: Int
    }

    let port: Int

    func ask(_ path: String, _ order: NewOrder? = nil) async throws -> (Int, Data) {
        var request = URLRequest(url: try #require(URL(string: "http://127.0.0.1:\(port)\(path)")))
        request.timeoutInterval = 60
        if let order {
            request.httpMethod = "POST"
            request.setValue("application/json", forHTTPHeaderField: "Content-Type")
            request.httpBody = try JSONEncoder().encode(order)
        }
        let (data, response) = try await URLSession.shared.data(for: request)
        return ((response as? HTTPURLResponse)?.statusCode ?? 0, data)
    }

    func wait(for status: Int, _ path: String, _ order: NewOrder? = nil) async throws {
        let end = ContinuousClock.now + .seconds(90)
        var last = 0
        while ContinuousClock.now < end {
            last = try await ask(path, order).0
            if last == status { return }
            try await Task.sleep(for: .milliseconds(100))
        }
        throw Unexpected(path: path, status: last)
    }
}

/// A log handler whose lines a test can wait for.
final class LinesLog: Sendable {
    private let lines = Mutex<[String]>([])

    var text: String { lines.withLock { $0.joined(separator: "\n") } }

    var logger: Logger { Logger(label: "test") { _ in Handler(log: self) } }

    func wait(for text: String) async throws {
        for _ in 0..<6000 {
            if lines.withLock({ $0.contains { $0.contains(text) } }) { return }
            try await Task.sleep(for: .milliseconds(10))
        }
        Issue.record("the log has no \"\(text)\":\n\(self.text)")
    }

    private struct Handler: LogHandler {
        let log: LinesLog
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.info

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            let metadata = metadata.merging(event.metadata ?? [:]) { $1 }
            let pairs = metadata.map { "\($0.key)=\($0.value)" }.sorted().joined(separator: " ")
            let line = "\(event.level) \(event.message) \(pairs)"
            log.lines.withLock { $0.append(line) }
        }
    }
}
