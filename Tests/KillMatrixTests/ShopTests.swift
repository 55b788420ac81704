import AMQPTesting
import BrokerSupport
import ChaosSupport
import Foundation
import Testing

/// A caller, a receiver, a pool and a consumer in one tree, with calls and messages on their way all the time.
@Suite("The shop", .timeLimit(.minutes(15)))
struct ShopTests {
    private func withShop(_ body: (Shop) async throws -> Void) async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let shop = try await Shop.open(broker, virtualHost: virtualHost, clients: 60)
            try await body(shop)
            await shop.close()
            try await shop.leavesNothing()
        }
    }

    @Test("survives what happens around it", .enabled(if: Matrix.folder != nil))
    func faults() async throws {
        try await withShop { shop in
            try await Matrix.play("faults") { try await shop.chaos(faults: shop.faults(ownBroker: false)).eachFault() }
        }
    }

    @Test("survives the ends of two processes, and of one while something happens around it")
    func pairs() async throws {
        let isWhole = Matrix.folder != nil
        try await withShop { shop in
            let chaos = shop.chaos(faults: shop.faults(ownBroker: false))
            try await Matrix.play("pairs") {
                try await chaos.pairs([.kill, .crash], sample: isWhole ? 60 : 8, expecting: .survives)
            }
        }
    }

    @Test("survives a storm")
    func storm() async throws {
        try await withShop { shop in
            // Settled one after another, two at once, five at once, and one after another whether settled or not.
            for seed in 0..<4 as Range<UInt64> {
                do {
                    let chaos = shop.chaos(faults: shop.faults(ownBroker: false))
                    _ = try await StormRound.play(chaos, seed: .random(in: 0...100_000) * 4 + seed, kills: 12)
                } catch let failure as Chaos.Failure {
                    Issue.record("\(failure)")
                }
            }
        }
    }
}
