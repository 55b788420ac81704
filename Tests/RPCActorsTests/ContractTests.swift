import AMQPPool
import ActorContracts
import BrokerSupport
import Distributed
import Foundation
import LocalBroker
import RPCActors
import RPCCaller
import RPCWire
import Supervision
import Synchronization
import Testing

/// What contracts may look like besides the bank's.
@Resolvable
protocol Shape: DistributedActor where ActorSystem: DistributedActorSystem<any Codable> {
    distributed func put(_ value: Int) async throws -> String
    distributed func put(_ value: String) async throws -> String
    distributed func put(_ value: Int, twice: Bool) async throws -> String
    distributed func checked(_ value: Int) async throws(TooMuch) -> Int
    distributed func number(_ value: Double) async throws -> Double
    distributed func divide(_ value: Double, by other: Double) async throws -> Double
    distributed func nested(_ value: [String: [Kind?]]) async throws -> [String: [Kind?]]?
    distributed func size(_ data: Data) async throws -> Int
    distributed func make(_ count: Int) async throws -> Data
    distributed func nothing() async throws
}

enum Kind: Codable, Sendable, Equatable {
    case plain
    case number(Int)
    indirect case pair(Kind, Kind)
}

struct TooMuch: Error, Codable, Equatable {
    var value: Int
}

/// A protocol that inherits from another.
@Resolvable
protocol Named: DistributedActor where ActorSystem: DistributedActorSystem<any Codable> {
    distributed func name() async throws -> String
}

@Resolvable
protocol Person: Named where ActorSystem: DistributedActorSystem<any Codable> {
    distributed func age() async throws -> Int
}

distributed actor Shaper: Shape, Person {
    typealias ActorSystem = RPCActorSystem
    distributed func put(_ value: Int) -> String { "Int \(value)" }
    distributed func put(_ value: String) -> String { "String \(value)" }
    distributed func put(_ value: Int, twice: Bool) -> String { "Int \(twice ? 2 * value : value)" }
    distributed func checked(_ value: Int) throws(TooMuch) -> Int {
        guard value < 10 else { throw TooMuch(value: value) }
        return value
    }
    distributed func number(_ value: Double) -> Double { value }
    distributed func divide(_ value: Double, by other: Double) -> Double { value / other }
    distributed func nested(_ value: [String: [Kind?]]) -> [String: [Kind?]]? { value.isEmpty ? nil : value }
    distributed func size(_ data: Data) -> Int { data.count }
    distributed func make(_ count: Int) -> Data { Data(repeating: 7, count: count) }
    distributed func nothing() {}
    distributed func name() -> String { "Shaper" }
    distributed func age() -> Int { 3 }
}

/// References to actors as arguments and results: stubs of protocols that know the system.
@Resolvable
protocol Drawer: DistributedActor where ActorSystem == RPCActorSystem {
    distributed func add(_ count: Int) async throws -> Int
}

@Resolvable
protocol Desk: DistributedActor where ActorSystem == RPCActorSystem {
    distributed func open() async throws -> $Drawer
    distributed func use(_ drawer: $Drawer, _ others: [$Drawer]) async throws -> Int
}

distributed actor PaperDrawer: Drawer {
    typealias ActorSystem = RPCActorSystem
    private var count = 0
    distributed func add(_ count: Int) -> Int {
        self.count += count
        return self.count
    }
}

distributed actor FrontDesk: Desk {
    typealias ActorSystem = RPCActorSystem
    private var drawers: [PaperDrawer] = []

    distributed func open() throws -> $Drawer {
        let drawer = PaperDrawer(actorSystem: actorSystem)
        drawers.append(drawer)
        return try $Drawer.resolve(id: drawer.id, using: actorSystem)
    }
    distributed func use(_ drawer: $Drawer, _ others: [$Drawer]) async throws -> Int {
        var sum = try await drawer.add(1)
        for other in others { sum += try await other.add(1) }
        return sum
    }
}

/// A virtual actor that calls another one of its kind.
@Resolvable
protocol Chain: DistributedActor where ActorSystem: DistributedActorSystem<any Codable> {
    distributed func follow(_ next: [String]) async throws -> [String]
}

/// Why a chain's link is not made.
struct NotMade: Error, Codable, Equatable {
    var key: String
}

distributed actor Link: Chain {
    typealias ActorSystem = RPCActorSystem
    static let shards = 2
    private let key: String

    init(_ activation: VirtualActivation, actorSystem: RPCActorSystem, ifNot broken: Shared<Set<String>>) throws {
        self.actorSystem = actorSystem
        key = activation.key
        if broken.value.contains(activation.key) { throw NotMade(key: activation.key) }
    }

    distributed func follow(_ next: [String]) async throws -> [String] {
        guard let first = next.first else { return [key] }
        let id = ActorAddress.virtual("shapes", "link", first, shards: Self.shards)
        let other = try $Chain<RPCActorSystem>.resolve(id: id, using: actorSystem)
        return [key] + (try await other.follow(Array(next.dropFirst())))
    }
}

final class Shared<Value: Sendable>: Sendable {
    private let mutex: Mutex<Value>
    init(_ value: Value) { mutex = Mutex(value) }
    var value: Value {
        get { mutex.withLock { $0 } }
        set { mutex.withLock { $0 = newValue } }
    }
}

@Suite("Contracts of many shapes", .timeLimit(.minutes(5)))
struct ContractTests {
    private func with(
        _ broken: Shared<Set<String>> = Shared([]),
        idle: Duration = .seconds(300),
        _ body: (RPCActorSystem) async throws -> Void
    ) async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let actors = RPCActorSystem(service: "shapes", configuration: try Bank.configuration(url), logger: quiet) {
                Export(Shaper.self, as: $Shape<RPCActorSystem>.self, errors: TooMuch.self)
                Export(Shaper.self, as: $Person<RPCActorSystem>.self)
                Export(Shaper.self, as: $Named<RPCActorSystem>.self)
                Export(FrontDesk.self, as: $Desk.self)
                Export(PaperDrawer.self, as: $Drawer.self)
                Export(Link.self, as: $Chain<RPCActorSystem>.self, errors: NotMade.self)
            }
            var settings = VirtualActorSettings()
            settings.idle = idle
            let root = Supervisor("shapes", strategy: .restForOne, logger: quiet) {
                actors.supervisor
                Child.distributed("shaper", in: actors) { Shaper(actorSystem: $0) }
                Child.distributed("desk", in: actors) { FrontDesk(actorSystem: $0) }
                Child.virtual("link", shards: Link.shards, in: actors, settings: settings) {
                    try Link($0, actorSystem: actors, ifNot: broken)
                }
            }
            let client = RPCActorSystem(
                service: "till",
                configuration: try Bank.configuration(url),
                errors: [TooMuch.self, NotMade.self],
                logger: quiet
            )
            try await root.start()
            try await client.start()
            try await actors.waitUntilReady(timeout: .seconds(90))
            try await client.waitUntilReady(timeout: .seconds(90))
            let result: Result<Void, any Error>
            do {
                result = .success(try await body(client))
            } catch {
                result = .failure(error)
            }
            await client.stop()
            await root.stop()
            try result.get()
        }
    }

    private func link(_ key: String, _ client: RPCActorSystem) throws -> $Chain<RPCActorSystem> {
        try $Chain<RPCActorSystem>.resolve(
            id: .virtual("shapes", "link", key, shards: Link.shards),
            using: client
        )
    }

    @Test(
        "overloads are told apart by their types, typed throws arrive as their type, and any Codable value goes through"
    )
    func shapes() async throws {
        try await with { client in
            let shape = try $Shape<RPCActorSystem>.resolve(id: .service("shapes", "shaper"), using: client)
            #expect(try await shape.put(1) == "Int 1")
            #expect(try await shape.put("1") == "String 1")
            #expect(try await shape.put(1, twice: true) == "Int 2")
            #expect(try await shape.checked(3) == 3)
            await #expect(throws: TooMuch(value: 30)) { try await shape.checked(30) }
            #expect(try await shape.number(-0.5) == -0.5)
            let value: [String: [Kind?]] = ["\u{0}\"\\ä": [nil, .plain, .pair(.number(.min), .number(.max))], "": []]
            #expect(try await shape.nested(value) == value)
            #expect(try await shape.nested([:]) == nil)
            try await shape.nothing()
            #expect(try await shape.size(Data(repeating: 1, count: 3_000_000)) == 3_000_000)
            #expect(try await shape.make(3_000_000).count == 3_000_000)
        }
    }

    @Test("the methods of an inherited protocol are called through its own stub")
    func inheritance() async throws {
        try await with { client in
            let id = ActorAddress.service("shapes", "shaper")
            let person = try $Person<RPCActorSystem>.resolve(id: id, using: client)
            let named = try $Named<RPCActorSystem>.resolve(id: id, using: client)
            #expect(try await person.age() == 3)
            #expect(try await named.name() == "Shaper")
        }
    }

    @Test("what JSON has no form for, or is too large, is an error that says so, and the next call works")
    func limits() async throws {
        try await with { client in
            let shape = try $Shape<RPCActorSystem>.resolve(id: .service("shapes", "shaper"), using: client)
            let argument = await #expect(throws: RPCActorError.self) { try await shape.number(.nan) }
            guard case .notEncodable? = argument else {
                Issue.record("\(String(describing: argument))")
                return
            }
            let result = await #expect(throws: RPCActorError.self) { try await shape.divide(1, by: 0) }
            guard case .rpc(.remote(let failure))? = result else {
                Issue.record("\(String(describing: result))")
                return
            }
            #expect(failure.code == .unencodableResult)
            let large = await #expect(throws: RPCActorError.self) {
                try await shape.size(Data(count: client.pool.configuration.connection.maximumMessageSize))
            }
            #expect(large?.requestMayHaveBeenProcessed == false, "\(String(describing: large))")
            let largeResult = await #expect(throws: RPCActorError.self) {
                try await shape.make(client.pool.configuration.connection.maximumMessageSize)
            }
            #expect(largeResult?.requestMayHaveBeenProcessed == true, "\(String(describing: largeResult))")
            #expect(try await shape.put(1) == "Int 1")
        }
    }

    @Test("stubs of actors are arguments, elements of arguments, and results")
    func references() async throws {
        try await with { client in
            let desk = try $Desk.resolve(id: .service("shapes", "desk"), using: client)
            let (first, second) = (try await desk.open(), try await desk.open())
            #expect(try await first.add(5) == 5)
            #expect(try await desk.use(first, [second, second]) == 6 + 1 + 2)
        }
    }

    @Test("a virtual actor that cannot be made is an error to its caller, and is made when it can be")
    func notMade() async throws {
        let broken = Shared<Set<String>>(["a"])
        try await with(broken) { client in
            let link = try link("a", client)
            for _ in 0..<3 { await #expect(throws: NotMade(key: "a")) { try await link.follow([]) } }
            let other = try self.link("b", client)
            #expect(try await other.follow([]) == ["b"])
            broken.value = []
            #expect(try await link.follow([]) == ["a"])
        }
    }

    @Test(
        "keys are any text",
        arguments: [
            [
                "", "/", "a/b", "!@#/", "\u{0}\n", "ключ 🔑", String(repeating: "k", count: 1000),
                // Begin with what combines with the separator before them.
                "\u{301}", "\u{FE0F}/", "\u{200D}👩", "\u{1F3FD}", "\u{E31}", "\n", "\r\n",
                // Two, though they look the same; one after the other, in whatever shards they are.
                "Jos\u{E9}", "Jose\u{301}", "\u{212B}", "\u{C5}", "A\u{30A}",
            ]
        ]
    )
    func keys(_ keys: [String]) async throws {
        try await with { client in
            for key in keys {
                let link = try link(key, client)
                let answer = try await link.follow([])
                #expect(answer.map { Array($0.utf8) } == [Array(key.utf8)], "\(key)")
            }
            let error = await #expect(throws: RPCActorError.self) {
                try await link(String(repeating: "k", count: 2000), client).follow([])
            }
            #expect(error?.requestMayHaveBeenProcessed == false, "\(String(describing: error))")
        }
    }

    @Test("actors of one shard call each other, also while many calls wait for the one that does")
    func hot() async throws {
        try await with { client in
            // All in the shard of the first.
            let shard = ActorAddress.virtual("shapes", "link", "0", shards: Link.shards).destination
            let keys = (0..<100).map(String.init).filter {
                ActorAddress.virtual("shapes", "link", $0, shards: Link.shards).destination == shard
            }
            let next = Array(keys.dropFirst().prefix(2))
            let first = try link(keys[0], client)
            try await withThrowingTaskGroup(of: [String].self) { group in
                // More than the receiver runs at once (64). They have their turns one after another, of three calls each: as many again
                // would say no more, and take longer than a call may on a machine that has other work.
                for _ in 0..<70 { group.addTask { try await first.follow(next) } }
                for try await seen in group { #expect(seen == [keys[0]] + next) }
            }
        }
    }

    @Test("calls that come while activations are ended as idle are answered, each once")
    func passivation() async throws {
        try await with(idle: .milliseconds(20)) { client in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for key in 0..<20 {
                    group.addTask {
                        let link = try self.link("\(key)", client)
                        for _ in 0..<20 {
                            #expect(try await link.follow([]) == ["\(key)"])
                            try await Task.sleep(for: .milliseconds(Int.random(in: 0...40)))
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    @Test(
        "a kind whose name addresses cannot have, or whose queues' names are too long, is refused at the start, by name",
        arguments: ["a#b", "a!b", "a@b", String(repeating: "k", count: 250)]
    )
    func kinds(_ kind: String) async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let actors = RPCActorSystem(service: "shapes", configuration: try Bank.configuration(url), logger: quiet) {
                Export(Link.self, as: $Chain<RPCActorSystem>.self)
            }
            let root = Supervisor("shapes", logger: quiet) {
                actors.supervisor
                Child.virtual(kind, shards: 2, in: actors) { try Link($0, actorSystem: actors, ifNot: Shared([])) }
            }
            let error = await #expect(throws: SupervisionError.self) { try await root.start() }
            let text = String(describing: error)
            #expect(text.contains("is not a valid name for a kind"), "\(text)")
            await root.stop()
        }
    }
}
