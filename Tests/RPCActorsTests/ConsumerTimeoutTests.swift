import AMQPPool
import ActorContracts
import BrokerSupport
import Foundation
import LocalBroker
import NIOCore
import RPCActors
import Supervision
import Testing

@Suite(
    "Nodes at a broker whose consumer timeout is a minute",
    .enabled(if: ProcessInfo.processInfo.environment["RPC_ACTORS_SLOW"] != nil, "takes three minutes"),
    .timeLimit(.minutes(10))
)
struct ConsumerTimeoutTests {
    @Test("keep their names and their shards, because what they hold is renewed", arguments: [false, true])
    func minute(_ usesQuorumQueues: Bool) async throws {
        var options = TestBroker.options
        // The broker looks for it twice a second then, instead of once a minute.
        options.configuration += "\nconsumer_timeout = 60000\n"
        try await TestBroker.own(options) { broker in
            let node = try Bank.node(broker.url, usesQuorumQueues: usesQuorumQueues)
            let client = try Bank.client(broker.url)
            try await node.root.start()
            try await client.start()
            try await node.actors.waitUntilReady(timeout: .seconds(90))
            // What does not acknowledge is closed: the timeout is there.
            try await broker.declareQueue("control")
            try await client.pool.publish(.init(), routingKey: "control", mandatory: true)
            let control = Task {
                try await client.pool.withDedicatedChannel { channel in
                    _ = try await channel.consume(queue: "control") { _ in }
                    return await channel.waitUntilClosed()
                }
            }
            let name = node.actors.node
            let account = try $Account<RPCActorSystem>.resolve(
                id: .virtual("bank", "account", "alice", shards: Bank.shards),
                using: client
            )
            let before = try await account.add(1)
            let closed = try await control.value
            #expect(closed?.cause.replyCode == 406, "\(String(describing: closed))")
            // As long again: two renewals and more after the timeout.
            let end = ContinuousClock.now + .seconds(75)
            var balance = before
            while ContinuousClock.now < end {
                balance = try await account.add(1)
                try await Task.sleep(for: .seconds(1))
            }
            #expect(node.actors.node == name)
            #expect(balance.number == before.number)
            #expect(balance.calls == balance.cents)
            await client.stop()
            await node.root.stop()
        }
    }
}
