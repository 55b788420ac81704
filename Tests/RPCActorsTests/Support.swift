import AMQPPool
import ActorContracts
import BrokerSupport
import Distributed
import LocalBroker
import Logging
import RPCActors
import RPCCaller
import RPCReceiver
import Supervision
import Synchronization
import Testing

let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// An error that ends its actor.
struct Corrupted: CrashingError, Codable {}

distributed actor BankTeller: Teller, Auditor {
    typealias ActorSystem = RPCActorSystem

    static let made = Counter()
    private let number: Int

    init(actorSystem: RPCActorSystem) {
        self.actorSystem = actorSystem
        number = Self.made.next()
    }

    distributed func greet(name: String) -> String { "hello, \(name)" }
    distributed func transfer(_ transfer: Transfer, note: String?) throws -> Int {
        guard transfer.cents <= 100 else { throw Insufficient(missing: transfer.cents - 100) }
        return transfer.cents + (note?.count ?? 0)
    }
    distributed func forget(_ name: String) throws {}
    distributed func leak() throws { throw Secret() }
    distributed func sleep(milliseconds: Int) async throws -> Int {
        try await Task.sleep(for: .milliseconds(milliseconds))
        return milliseconds
    }
    distributed func crash() throws { throw Corrupted() }
    distributed func incarnation() -> Int { number }
    distributed func audit() -> [String] { ["all is well"] }
    /// Of no protocol: nobody outside may call it.
    distributed func rob() -> String { "robbed" }
}

distributed actor BankVault: Vault {
    typealias ActorSystem = RPCActorSystem
    distributed func open() -> String { "gold" }
}

distributed actor BankEcho: Echo {
    typealias ActorSystem = RPCActorSystem
    distributed func echo<Value: Codable & Sendable>(_ value: Value) -> Value { value }
}

distributed actor BankLedger: Ledger {
    typealias ActorSystem = RPCActorSystem
    private var cents = 0

    distributed func add(_ cents: Int) -> Int {
        self.cents += cents
        return self.cents
    }
    distributed func stall() async throws { try await Task.sleep(for: .seconds(600)) }
}

/// Makes ledgers: a contract that knows the system.
@Resolvable
protocol Office: DistributedActor where ActorSystem == RPCActorSystem {
    distributed func open() async throws -> ActorAddress
    distributed func close(_ ledger: ActorAddress) async throws
    distributed func visit(_ ledger: ActorAddress) async throws -> Int
}

distributed actor BankOffice: Office {
    typealias ActorSystem = RPCActorSystem
    private var ledgers: [ActorAddress: BankLedger] = [:]

    distributed func open() -> ActorAddress {
        let ledger = BankLedger(actorSystem: actorSystem)
        ledgers[ledger.id] = ledger
        return ledger.id
    }
    distributed func close(_ ledger: ActorAddress) { ledgers[ledger] = nil }
    distributed func visit(_ ledger: ActorAddress) async throws -> Int {
        try await $Ledger<RPCActorSystem>.resolve(id: ledger, using: actorSystem).add(1)
    }
}

/// What accounts remember when they are not active, and where overlapping activations show.
final class Accounts: Sendable {
    private struct State {
        var cents: [String: Int] = [:]
        var working: [String: Int] = [:]
        var numbers: [String: Int64] = [:]
        var faults: [String] = []
        var activations = 0
    }

    private let state = Mutex(State())

    var faults: [String] { state.withLock { $0.faults } }
    var activations: Int { state.withLock { $0.activations } }

    func activate(_ key: String, _ number: Int64) -> Int {
        state.withLock { state in
            state.activations += 1
            if let last = state.numbers[key], number < last { state.faults.append("\(key): \(number) after \(last)") }
            state.numbers[key] = number
            return state.cents[key, default: 0]
        }
    }

    func begin(_ key: String) {
        state.withLock { state in
            state.working[key, default: 0] += 1
            if state.working[key] != 1 { state.faults.append("two work on \(key)") }
        }
    }

    func end(_ key: String, _ cents: Int) {
        state.withLock { state in
            state.working[key, default: 1] -= 1
            state.cents[key] = cents
        }
    }
}

distributed actor BankAccount: Account {
    typealias ActorSystem = RPCActorSystem
    private let activation: VirtualActivation
    private let accounts: Accounts
    private var cents: Int
    private var calls = 0

    init(_ activation: VirtualActivation, _ accounts: Accounts, actorSystem: RPCActorSystem) {
        self.actorSystem = actorSystem
        self.activation = activation
        self.accounts = accounts
        cents = accounts.activate(activation.key, activation.number)
    }

    private var balance: Balance {
        Balance(key: activation.key, cents: cents, node: actorSystem.node, number: activation.number, calls: calls)
    }

    distributed func add(_ cents: Int) -> Balance {
        accounts.begin(activation.key)
        self.cents += cents
        calls += 1
        accounts.end(activation.key, self.cents)
        return balance
    }
    distributed func hold(milliseconds: Int) async throws -> Balance {
        accounts.begin(activation.key)
        defer { accounts.end(activation.key, cents) }
        calls += 1
        try await Task.sleep(for: .milliseconds(milliseconds))
        return balance
    }
    distributed func crash() throws { throw Corrupted() }
}

final class Counter: Sendable {
    private let count = Atomic(0)
    var value: Int { count.load(ordering: .acquiring) }
    @discardableResult
    func next() -> Int { count.add(1, ordering: .acquiringAndReleasing).newValue }
}

/// A node of the service "bank", with everything.
struct BankNode: Sendable {
    let actors: RPCActorSystem
    let root: Supervisor
    let accounts: Accounts
}

enum Bank {
    static let shards = 8

    static func configuration(_ url: String) throws -> RPCActorConfiguration {
        var configuration = RPCActorConfiguration(endpoints: [try Endpoint(url: url)])
        configuration.pool.backoff = Backoff(minimum: .milliseconds(10), maximum: .milliseconds(500), jitter: 1)
        configuration.pool.connection.operationTimeout = .seconds(30)
        configuration.caller.pool.backoff = configuration.pool.backoff
        configuration.receiver.pool.backoff = configuration.pool.backoff
        return configuration
    }

    static func node(
        _ url: String,
        accounts: Accounts = Accounts(),
        idle: Duration = .seconds(300),
        usesQuorumQueues: Bool = false,
        _ change: (inout RPCActorConfiguration) -> Void = { _ in }
    ) throws -> BankNode {
        var configuration = try configuration(url)
        change(&configuration)
        let actors = RPCActorSystem(service: "bank", configuration: configuration, logger: quiet) {
            Export(
                BankTeller.self,
                as: $Teller<RPCActorSystem>.self,
                errors: Insufficient.self,
                Corrupted.self,
                methods: [
                    { _ = try await $0.greet(name: "") }, { _ = try await $0.transfer(Transfer(), note: nil) },
                    { _ = try await $0.sleep(milliseconds: 0) },
                ]
            )
            Export(BankTeller.self, as: $Auditor<RPCActorSystem>.self)
            Export(BankOffice.self, as: $Office.self)
            Export(BankLedger.self, as: $Ledger<RPCActorSystem>.self)
            Export(BankAccount.self, as: $Account<RPCActorSystem>.self)
            Export(BankEcho.self, as: $Echo<RPCActorSystem>.self)
        }
        var settings = VirtualActorSettings()
        settings.idle = idle
        settings.usesQuorumQueues = usesQuorumQueues
        let root = Supervisor("bank", strategy: .restForOne, logger: quiet) {
            actors.supervisor
            Child.distributed("teller", in: actors) { BankTeller(actorSystem: $0) }
            Child.distributed("vault", in: actors) { BankVault(actorSystem: $0) }
            Child.distributed("echo", in: actors) { BankEcho(actorSystem: $0) }
            Child.distributed("office", in: actors) { BankOffice(actorSystem: $0) }
            Child.virtual("account", shards: shards, in: actors, settings: settings) { [settings] activation in
                _ = settings
                return BankAccount(activation, accounts, actorSystem: actors)
            }
        }
        return BankNode(actors: actors, root: root, accounts: accounts)
    }

    static func client(
        _ url: String,
        _ change: (inout RPCActorConfiguration) -> Void = { _ in }
    ) throws -> RPCActorSystem {
        var configuration = try configuration(url)
        change(&configuration)
        return RPCActorSystem(
            service: "till",
            configuration: configuration,
            errors: [Insufficient.self, Corrupted.self],
            logger: quiet
        )
    }

    /// Runs the body with so many nodes and a client.
    static func with(
        nodes count: Int = 1,
        idle: Duration = .seconds(300),
        usesQuorumQueues: Bool = false,
        _ body: (_ nodes: [BankNode], _ client: RPCActorSystem, _ broker: LocalBroker, _ virtualHost: String)
            async throws -> Void
    ) async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let accounts = Accounts()
            let client = try client(url)
            var nodes: [BankNode] = []
            for _ in 0..<count {
                nodes.append(try node(url, accounts: accounts, idle: idle, usesQuorumQueues: usesQuorumQueues))
            }
            do {
                try await client.start()
                for node in nodes { try await node.root.start() }
                for node in nodes { try await node.actors.waitUntilReady(timeout: .seconds(90)) }
                try await client.waitUntilReady(timeout: .seconds(90))
                try await body(nodes, client, broker, virtualHost)
            } catch {
                for node in nodes { await node.root.stop() }
                await client.stop()
                throw error
            }
            for node in nodes { await node.root.stop() }
            await client.stop()
        }
    }
}
