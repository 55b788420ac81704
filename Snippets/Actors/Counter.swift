import AMQPPool
import Distributed
import RPCActors
import Supervision

// snippet.contract
@Resolvable
protocol Counter: DistributedActor where ActorSystem: DistributedActorSystem<any Codable> {
    distributed func add(_ amount: Int) async throws -> Int
}
// snippet.end

// snippet.local
distributed actor LocalCounter: Counter {
    typealias ActorSystem = LocalTestingDistributedActorSystem
    private var count = 0

    distributed func add(_ amount: Int) -> Int {
        count += amount
        return count
    }
}

let local: any Counter = LocalCounter(actorSystem: LocalTestingDistributedActorSystem())
print(try await local.add(1))
// snippet.end

// snippet.actor
distributed actor BankCounter: Counter {
    typealias ActorSystem = RPCActorSystem
    private var count = 0

    distributed func add(_ amount: Int) throws -> Int {
        guard amount >= 0 else { throw Negative(amount: amount) }
        count += amount
        return count
    }
}

struct Negative: Error, Codable {
    var amount: Int
}
// snippet.end

let endpoints: [Endpoint] = ["amqp://guest:guest@127.0.0.1:5672"]

// snippet.service
let actors = RPCActorSystem(service: "bank", endpoints: endpoints) {
    Export(BankCounter.self, as: $Counter<RPCActorSystem>.self, errors: Negative.self)
    Export(StoredCounter.self, as: $Counter<RPCActorSystem>.self)
}
let bank = Supervisor("bank", strategy: .restForOne) {
    actors.supervisor
    Child.distributed("visits", in: actors) { BankCounter(actorSystem: $0) }
    Child.virtual("counter", shards: 64, in: actors) { activation in
        try await StoredCounter(activation, actorSystem: actors)
    }
}
// snippet.end

// snippet.client
let client = RPCActorSystem(service: "till", endpoints: endpoints, errors: [Negative.self])
try await client.start()
let visits = try $Counter<RPCActorSystem>.resolve(id: .service("bank", "visits"), using: client)
let count = try await RemoteCall.with(timeout: .seconds(2)) { try await visits.add(1) }
// snippet.end
print(count)

// snippet.virtual
distributed actor StoredCounter: Counter {
    typealias ActorSystem = RPCActorSystem
    private let key: String
    private let fence: Int64
    private var count: Int

    init(_ activation: VirtualActivation, actorSystem: RPCActorSystem) async throws {
        self.actorSystem = actorSystem
        key = activation.key
        fence = activation.number
        count = try await Store.read(activation.key)
    }

    distributed func add(_ amount: Int) async throws -> Int {
        let next = count + amount
        // Refused if an activation with a greater number has written.
        try await Store.write(key, next, fence: fence)
        count = next
        return next
    }
}
// snippet.end

// snippet.key
let alice = try $Counter<RPCActorSystem>.resolve(
    id: .virtual("bank", "counter", "alice", shards: 64),
    using: client
)
print(try await alice.add(1))
// snippet.end

// snippet.watch
for await nodes in client.members(of: "bank") {
    guard let node = nodes.first else { continue }
    let exit = try await client.exited(RPCActorSystem.on(node, "visits"))
    print("the counter on \(node) ended: \(exit)")
}
// snippet.end

try await bank.run()

enum Store {
    static func read(_ key: String) async throws -> Int { 0 }
    static func write(_ key: String, _ count: Int, fence: Int64) async throws {}
}
