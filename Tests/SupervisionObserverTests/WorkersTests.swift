#if Observer && os(Linux)
import AMQPPool
import BrokerSupport
import NIOCore
import QueueWorkers
import Supervision
import Synchronization
import Testing

@testable import SupervisionObserver

@Suite("Workers of queues in the observer")
struct WorkersTests {
    private struct Refused: Error {}

    private final class Gate: Sendable {
        private let isOpen = Mutex(true)

        var value: Bool {
            get { isOpen.withLock { $0 } }
            set { isOpen.withLock { $0 = newValue } }
        }
    }

    private struct Shop {
        let pool: AMQPPool
        let supervisor: Supervisor

        func publish(_ text: String, to queue: String = "orders") async throws {
            try await pool.publish(ByteBuffer(string: "\"\(text)\""), routingKey: queue, mandatory: true)
        }
    }

    private func withShop(_ body: (Shop, Served) async throws -> Void) async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let pool = AMQPPool(endpoints: [try Endpoint(url: url)], connections: 1, logger: Served.quiet)
            var configuration = WorkerConfiguration()
            configuration.concurrency = 3
            configuration.prefetch = 7
            configuration.queueType = .classic
            let supervisor = Supervisor("shop", intensity: .init(100, within: .seconds(5)), logger: Served.quiet) {
                pool.supervisor
                Child.worker(
                    of: String.self,
                    from: "orders",
                    on: pool,
                    retry: .after([.milliseconds(1)], then: .park),
                    configuration: configuration
                ) { text, _ in
                    if text == "bad" { throw Refused() }
                }
                Child("other") { _ in Served.Plain() }
            }
            try await Served.run(supervisor, permission: .actions(Served.token)) { served in
                let shop = Shop(pool: pool, supervisor: supervisor)
                _ = try await look(served) { $0.queues.allSatisfy(\.isConsuming) }
                try await body(shop, served)
            }
        }
    }

    /// The worker, asked for until it is as expected.
    private func look(_ served: Served, until isEnough: (WorkerSummary) -> Bool) async throws -> WorkerSummary {
        let deadline = ContinuousClock.now + .seconds(60)
        while true {
            let page: WorkersPage = try await served.client.get("api/workers")
            let worker = try #require(page.page.first)
            if isEnough(worker) { return worker }
            if ContinuousClock.now > deadline {
                Issue.record("it does not become so: \(worker)")
                return worker
            }
            try await Task.sleep(for: .milliseconds(20))
        }
    }

    @Test("they are found in the trees, and tell how many messages became what, and what waits at the broker")
    func counts() async throws {
        try await withShop { shop, served in
            for text in ["a", "b", "c", "bad"] { try await shop.publish(text) }
            let worker = try await look(served) { worker in
                worker.handled == 3 && worker.parked == 1 && worker.queues.first?.keptAsFailed == 1
            }
            #expect(worker.path == "shop/orders")
            #expect(worker.state == "working")
            // Two attempts failed: the first was tried again, the second was one too many.
            #expect((worker.handled, worker.failed, worker.retried, worker.parked) == (3, 2, 1, 1))
            #expect((worker.concurrency, worker.prefetch, worker.running, worker.zombies) == (3, 7, 0, 0))
            #expect(worker.queues.map(\.name) == ["orders"])
            #expect(worker.queues.map(\.failed) == ["orders.failed"])
            #expect(worker.queues[0].backlog == 0 && worker.queues[0].consumers == 1)
            let process: ProcessPage = try await served.client.get("api/process?tree=0&key=shop%2Forders")
            #expect(process.worker?.handled == 3)
            let other: ProcessPage = try await served.client.get("api/process?tree=0&key=shop%2Fother")
            #expect(other.worker == nil)
            let found: WorkersPage = try await served.client.get("api/workers?query=ORD")
            #expect(found.matches == 1)
            let none: WorkersPage = try await served.client.get("api/workers?query=nothing&offset=-3&limit=-1")
            #expect((none.workers, none.matches, none.page.count) == (1, 0, 0))
            var overview: Overview = try await served.client.get("api/overview")
            while overview.workers.parked == 0 {
                try await Task.sleep(for: .milliseconds(50))
                overview = try await served.client.get("api/overview")
            }
            #expect((overview.workers.workers, overview.workers.handled, overview.workers.failed) == (1, 3, 2))
        }
    }

    @Test("who has the token pauses a worker, which then takes nothing, and lets it go on; nobody else does")
    func pauses() async throws {
        try await withShop { shop, served in
            func act(_ action: ActionRequest.Action, _ key: String = "shop/orders", token: String? = Served.token)
                async throws -> ActionResult
            {
                try await served.client.post(
                    "api/action",
                    ActionRequest(action: action, tree: 0, key: key),
                    token: token
                )
            }
            for token in [nil, "wrong-wrong-wrong"] {
                await #expect(throws: ObserverClient.Failure.self) { _ = try await act(.pause, token: token) }
            }
            #expect(try await look(served) { _ in true }.state == "working")
            #expect(try await act(.pause).done == "paused shop/orders")
            _ = try await look(served) { worker in
                worker.state == "paused" && worker.queues.first?.isConsuming == false
            }
            try await shop.publish("while it is paused")
            // Looking fails when it does not become so.
            _ = try await look(served) { worker in
                worker.queues.first?.backlog == 1 && worker.queues.first?.consumers == 0 && worker.handled == 0
            }
            #expect(try await act(.resume).done == "resumed shop/orders")
            let resumed = try await look(served) { $0.handled == 1 }
            #expect(resumed.state == "working")
            for key in ["shop/other", "shop", "shop/amqp-pool", "shop/nobody"] {
                await #expect(throws: ObserverClient.Failure.self) { _ = try await act(.pause, key) }
            }
            let events = try await served.events { $0.count { $0.kind == "action" } >= 2 }
            #expect(events.contains { $0.reason?.hasPrefix("pause") == true && $0.path == "shop/orders" })
        }
    }

    @Test("a worker is paused and goes on in the page", .enabled(if: Browser.program != nil))
    func page() async throws {
        try await withShop { shop, served in
            for text in ["a", "b", "bad"] { try await shop.publish(text) }
            try await Browser.run { browser in
                try await browser.open(served.url)
                try await browser.wait("document.querySelector('#live').classList.contains('live')")
                try await browser.press("5")
                try await browser.wait("document.querySelector('#workers')?.textContent.includes('shop/orders')")
                try await browser.wait(
                    "document.querySelector('#workers').textContent.includes('1 kept in orders.failed')"
                )
                #expect(try await browser.value("!document.querySelector('#workers tbody .tool')", as: Bool.self))
                try await browser.click("#unlock")
                try await browser.type(Served.token)
                try await browser.press("Enter")
                try await browser.wait("document.querySelector('#workers tbody .tool')?.textContent == 'Pause'")
                // Longer than it takes until the page is drawn again.
                try await browser.click("#workers tbody .tool", hold: 1.5)
                try await browser.wait("document.querySelector('#workers tbody .tool')?.textContent == 'Resume'")
                try await browser.wait("document.querySelector('#workers .pill').textContent.includes('paused')")
                try await browser.screenshot("workers")
                try await browser.click("#workers tbody .tool")
                try await browser.wait("document.querySelector('#workers .pill').textContent.includes('working')")
                try await browser.click("#workers tbody .link")
                try await browser.wait("document.querySelector('#process')?.textContent.includes('Queues')")
                try await browser.screenshot("worker-process")
                #expect(try await browser.report().errors.isEmpty)
            }
        }
    }
}
#endif
