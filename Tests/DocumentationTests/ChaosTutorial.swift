import Foundation
// snippet.imports
import Logging
import Supervision
import SupervisionTesting
import Synchronization
import Testing

/// The kit ends processes all the time: the tree's log is of no interest here.
let silent = Logger(label: "silent") { _ in SwiftLogNoOpLogHandler() }
// snippet.end

// snippet.basket
/// The items that the customer at the till has put into the basket.
actor Basket {
    private static let items = Mutex<[String]>([])

    func add(_ item: String) { Self.items.withLock { $0.append(item) } }
    func count() -> Int { Self.items.withLock { $0.count } }
}
// snippet.end

// snippet.prices
/// Knows the prices. Callers open a session first.
actor Prices {
    struct UnknownSession: Error {}

    private var sessions = 0

    func open() -> Int {
        sessions += 1
        return sessions
    }

    func price(of item: String, session: Int) throws -> Int {
        if session > sessions { throw UnknownSession() }
        return item.count
    }
}
// snippet.end

// snippet.till
/// Sells at the price of the day.
actor Till {
    private let prices: ChildReference<Prices>
    private let session: Int

    init(_ context: ChildContext) async throws {
        prices = context.reference("prices")
        session = try await prices.call { $0.open() }
    }

    func sell(_ item: String) async throws -> Int {
        let session = session
        return try await prices.call { try $0.price(of: item, session: session) }
    }
}
// snippet.end

// snippet.printer
/// Prints receipts when there are any.
actor PaperPrinter: Worker {
    private static let paper = Mutex<[CheckedContinuation<Void, Never>]>([])

    func run() async {
        await withCheckedContinuation { continuation in Self.paper.withLock { $0.append(continuation) } }
    }
}
// snippet.end

// snippet.naive
func naiveShop(_ clock: ManualClock) -> Supervisor {
    Supervisor("shop", intensity: .init(1, within: .seconds(5)), logger: silent, clock: clock) {
        Child("prices") { _ in Prices() }
        Child("till") { context in try await Till(context) }
        Child("basket") { _ in Basket() }
    }
}
// snippet.end

// snippet.invariants
let invariants = [
    Chaos.Invariant("the till sells") { scene in
        let till = try scene.tree.supervisor.child("till", as: Till.self)
        try Chaos.require(try await till.call { try await $0.sell("milk") } == 4, "milk costs something else")
    },
    Chaos.Invariant("a new basket is empty") { tree in
        let basket = try tree.supervisor.child("basket", as: Basket.self)
        try await basket.call { $0.add("milk") }
    } check: { scene, _ in
        guard scene.effects.restarted.contains("shop/basket") else { return }
        let count = try await scene.tree.supervisor.child("basket", as: Basket.self).call { $0.count() }
        try Chaos.require(count == 0, "it is not empty")
    },
]
// snippet.end

// snippet.better-basket
/// The corrected version.
enum Better {
    actor Basket {
        private var items: [String] = []

        func add(_ item: String) { items.append(item) }
        func count() -> Int { items.count }
    }
}
// snippet.end

// snippet.shop-with-printer
extension Better {
    static func shopWithPrinter(_ clock: ManualClock) -> Supervisor {
        Supervisor("shop", strategy: .restForOne, logger: silent, clock: clock) {
            Child("prices") { _ in Prices() }
            Child("till") { context in try await Till(context) }
            Child("basket") { _ in Basket() }
            Child("printer") { _ in PaperPrinter() }
        }
    }
}
// snippet.end

// snippet.better-printer
extension Better {
    actor Printer: Worker {
        private let stop: StopRequest

        init(_ context: ChildContext) { stop = context.stopRequest }

        func run() async {
            await stop.wait()
        }
    }
}
// snippet.end

// snippet.better-shop
extension Better {
    static func shop(_ clock: ManualClock) -> Supervisor {
        Supervisor("shop", strategy: .restForOne, logger: silent, clock: clock) {
            Child("prices") { _ in Prices() }
            Child("till") { context in try await Till(context) }
            Supervisor("counter", intensity: .init(5, within: .seconds(10)), whenExceeded: .cooldown(.seconds(30))) {
                Child("basket") { _ in Basket() }
                Child("printer") { context in Printer(context) }
            }
        }
    }
}
// snippet.end

// snippet.better-invariants
extension Better {
    static let invariants = [
        Chaos.Invariant("the till sells") { scene in
            let till = try scene.tree.supervisor.child("till", as: Till.self)
            try Chaos.require(try await till.call { try await $0.sell("milk") } == 4, "milk costs something else")
        },
        Chaos.Invariant("a new basket is empty") { tree in
            let basket = try tree.supervisor.child("counter", "basket", as: Basket.self)
            try await basket.call { $0.add("milk") }
        } check: { scene, _ in
            guard scene.effects.restarted.contains("shop/counter/basket") else { return }
            let basket = try scene.tree.supervisor.child("counter", "basket", as: Basket.self)
            try Chaos.require(try await basket.call { $0.count() } == 0, "it is not empty")
        },
    ]
}
// snippet.end

/// The tutorial shows what the kit really says.
@Suite("The chaos tutorial", .timeLimit(.minutes(5)))
struct ChaosTutorial {
    private func article() throws -> String {
        try String(
            contentsOf: Samples.root.appending(
                path: "Sources/SupervisionTesting/SupervisionTesting.docc/KillTheProcess.md"
            ),
            encoding: .utf8
        )
    }

    @Test("shows what the kit finds in the naive shop")
    func naive() async throws {
        do {
            // snippet.matrix
            let chaos = Chaos(invariants: invariants) { clock in naiveShop(clock) }
            try await chaos.matrix([.kill])
            // snippet.end
            Issue.record("the kit found nothing")
        } catch let failure as Chaos.Failure {
            #expect(try article().contains("```\n\(failure)\n```"), "\(failure)")
        }
    }

    @Test("shows what the kit says of a printer that cannot be stopped")
    func printer() async throws {
        do {
            // snippet.printer-matrix
            let chaos = Chaos { clock in Better.shopWithPrinter(clock) }
            try await chaos.replay("kill shop/printer")
            // snippet.end
            Issue.record("the kit found nothing")
        } catch let failure as Chaos.Failure {
            #expect(try article().contains("```\n\(failure)\n```"), "\(failure)")
        }
    }

    @Test("shows what the kit finds when starts fail")
    func fragile() async throws {
        do {
            // snippet.expecting
            let chaos = Chaos(expecting: { $0.path == "shop/basket" ? .onlyThisChild : nil }) { clock in
                naiveShop(clock)
            }
            try await chaos.matrix([.crash, .failingRestart(.times(1))])
            // snippet.end
            Issue.record("the kit found nothing")
        } catch let failure as Chaos.Failure {
            #expect(try article().contains("```\n\(failure)\n```"), "\(failure)")
        }
    }

    @Test("ends with a shop that survives the matrix and a storm")
    func better() async throws {
        // snippet.survives
        let chaos = Chaos(invariants: Better.invariants) { clock in Better.shop(clock) }
        let report = try await chaos.matrix()
        try await chaos.pairs()
        try await chaos.storm(kills: 200)
        print(report.markdown)
        // snippet.end
        // The article shows one row of the table, and not its times.
        #expect(report.markdown.contains("| `shop/till` | shop/till, shop/counter and below<br>"))
    }
}
