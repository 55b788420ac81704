import Distributed
import Foundation
import NIOCore
import RPCWire
import Testing

@testable import RPCActors

@Suite("Placement")
struct PlacementTests {
    private let shards = (0..<256).map { "bank/account#\($0)/256" }

    @Test("is the same whatever the order in which nodes are known")
    func order() {
        let nodes = (0..<10).map { "bank@\($0)" }
        for shard in shards {
            #expect(
                Placement.owner(of: shard, among: nodes) == Placement.owner(of: shard, among: Array(nodes.reversed()))
            )
        }
        #expect(Placement.owner(of: "x", among: []) == nil)
    }

    @Test("moves only what the node that comes gets, and what the node that goes had", arguments: 1...8)
    func stability(_ count: Int) {
        let before = (0..<count).map { "bank@\($0)" }
        let after = before + ["bank@new"]
        for shard in shards {
            let (old, new) = (Placement.owner(of: shard, among: before), Placement.owner(of: shard, among: after))
            #expect(new == old || new == "bank@new")
        }
    }

    @Test("gives every node about the same", arguments: [2, 3, 5, 8])
    func balance(_ count: Int) {
        var shares: [String: Int] = [:]
        let nodes = (0..<count).map { "bank@\(StableHash.hex("\($0)"))" }
        for shard in shards { shares[Placement.owner(of: shard, among: nodes) ?? "", default: 0] += 1 }
        let fair = Double(shards.count) / Double(count)
        for node in nodes { #expect((0.5 * fair)...(1.6 * fair) ~= Double(shares[node] ?? 0), "\(shares)") }
    }

    @Test("hashes as it always did: other versions and languages compute the same")
    func hash() {
        #expect(StableHash.hex("") == StableHash.hex(""))
        #expect(StableHash.hex("alice").count == 16)
        #expect(Set((0..<10_000).map { StableHash.value("key-\($0)") }).count == 10_000)
        let shards = Set(
            (0..<1000).map { ShardName(service: "b", kind: "a", count: 64).address(of: "key-\($0)").destination }
        )
        #expect(shards.count == 64)
    }
}

@Suite("Addresses")
struct ActorAddressTests {
    @Test(
        "are one string, and come back from it",
        arguments: [
            ActorAddress.service("bank", "teller"), .virtual("bank", "account", "alice!#@/", shards: 64),
            .service("bank", "\u{301}"), .virtual("bank", "account", "\u{301}", shards: 64),
            .node("bank@9f3c", "Ledger-7"),
        ]
    )
    func roundTrip(_ address: ActorAddress) {
        #expect(ActorAddress(address.description) == address)
    }

    @Test("know their route, and the key")
    func routes() {
        #expect(ActorAddress.service("bank", "teller").route == .service)
        #expect(ActorAddress.node("bank@1", "x").route == .node)
        #expect(ActorAddress.virtual("bank", "account", "a/b", shards: 8).route == .shard)
        #expect(ActorAddress.virtual("bank", "account", "a/b", shards: 8).key == "a/b")
        #expect(ActorAddress.virtual("bank", "account", "a", shards: 0).isValid)
    }

    @Test(
        "that cannot be any are refused",
        arguments: [
            "", "!", "a!", "!b", "ab", String(repeating: "x", count: 256) + "!y",
            "a!" + String(repeating: "y", count: 1025),
        ]
    )
    func invalid(_ text: String) {
        #expect(ActorAddress(text) == nil)
    }
}

@Suite("Arguments")
struct ArgumentScannerTests {
    private func elements(_ text: String) -> ([String], Bool) {
        var scanner = ArgumentScanner(ByteBuffer(string: text))
        var found: [String] = []
        while let next = scanner.next() { found.append(String(buffer: next)) }
        return (found, scanner.isMalformed)
    }

    @Test("are the elements of an array, as they stand")
    func elements() {
        #expect(elements("[]").0 == [])
        #expect(elements(" [ ] ").0 == [])
        #expect(elements("[1]").0 == ["1"])
        #expect(
            elements(#"["a,]b", {"x": [1, 2]}, [[]], "\"", null]"#).0 == [
                #""a,]b""#, #" {"x": [1, 2]}"#, " [[]]", #" "\"""#, " null",
            ]
        )
    }

    @Test(
        "that are no array end, and say so",
        arguments: ["", "1", "{", "[", "[1", "[,", "[,]", "[1,]", "[\"", "[\"\\", "[}", "[{]}"]
    )
    func malformed(_ text: String) {
        _ = elements(text)
    }

    @Test("of random bytes end within them")
    func random() {
        var generator = SystemRandomNumberGenerator()
        let alphabet = Array(#"[]{},:"\ 01ax"#.utf8) + [0, 0xFF, 0xC3]
        for _ in 0..<20_000 {
            let bytes = (0..<Int.random(in: 0..<24, using: &generator)).map { _ in
                alphabet.randomElement(using: &generator) ?? 0
            }
            var scanner = ArgumentScanner(ByteBuffer(bytes: bytes))
            var count = 0
            while scanner.next() != nil { count += 1 }
            #expect(count <= bytes.count)
        }
    }
}

@Suite("Arguments and results that nest deeply")
struct DepthTests {
    private indirect enum Chain: Codable, Sendable {
        case end
        case link(Chain)
    }

    private static func chain(_ depth: Int) -> Chain { (0..<depth).reduce(.end) { inner, _ in .link(inner) } }

    @Test("are refused as what cannot be encoded, and do not overflow the stack", arguments: [600, 5000])
    func refused(_ depth: Int) async throws {
        var arguments = RPCInvocationEncoder(JSONEncoder())
        #expect(throws: RPCActorError.self) {
            try arguments.recordArgument(RemoteCallArgument(label: nil, name: "chain", value: Self.chain(depth)))
        }
        let results = RPCResultHandler(JSONEncoder())
        try await results.onReturn(value: Self.chain(depth))
        guard case .unencodable = results.outcome else {
            Issue.record("\(String(describing: results.outcome))")
            return
        }
    }

    @Test("go through as deep as JSON is read")
    func taken() throws {
        var arguments = RPCInvocationEncoder(JSONEncoder())
        try arguments.recordArgument(RemoteCallArgument(label: nil, name: "chain", value: Self.chain(100)))
    }
}

@Suite("Membership")
struct MembershipTests {
    @Test("a hello that another of the node has overtaken changes nothing")
    func overtaken() {
        var membership = Membership()
        let isNew = membership.hello(.init(node: "a@1", kinds: ["x"], number: 2))
        let isLate = membership.hello(.init(node: "a@1", kinds: [], number: 1))
        #expect(isNew)
        #expect(!isLate)
        #expect(membership.nodes(holding: "x") == ["a@1"])
    }

    @Test("counts who says hello, and no more who has ended")
    func ends() {
        var membership = Membership()
        let isNew = membership.hello(.init(node: "a@1", kinds: ["x"]))
        let isSame = membership.hello(.init(node: "a@1", kinds: ["x"]))
        #expect(isNew && !isSame)
        #expect(membership.nodes(holding: "x") == ["a@1"])
        #expect(membership.nodes(holding: "y") == [])
        let wasThere = membership.ended("a@1")
        let wasThereAgain = membership.ended("a@1")
        #expect(wasThere && !wasThereAgain)
        let late = membership.hello(.init(node: "a@1"))
        #expect(!late)
        #expect(membership.nodes == [])
    }

    @Test("asks everybody after a time without a connection, and drops who does not answer")
    func reconnect() {
        var membership = Membership()
        _ = membership.hello(.init(node: "a@1"))
        _ = membership.hello(.init(node: "a@2"))
        membership.reconnected()
        #expect(membership.nodes == ["a@1", "a@2"])
        _ = membership.hello(.init(node: "a@2"))
        let silent = membership.settle()
        #expect(silent == ["a@1"])
        #expect(membership.nodes == ["a@2"])
        let again = membership.settle()
        #expect(again.isEmpty)
    }

    @Test("remembers a bounded number of ends")
    func bounded() {
        var membership = Membership()
        for number in 0..<5000 { _ = membership.ended("a@\(number)") }
        #expect(!membership.hasEnded("a@0"))
        #expect(membership.hasEnded("a@4999"))
    }
}

@Suite("Turns")
struct TurnTests {
    @Test("are one at a time for a name, in order, and independent of other names")
    func order() {
        var turns = TurnTable<Int>()
        turns.take(1, for: "a")
        turns.take(2, for: "a")
        turns.take(3, for: "b")
        #expect(turns.isFirst(1) && !turns.isFirst(2) && turns.isFirst(3))
        let next = turns.end(1)
        #expect(next == 2)
        #expect(turns.isFirst(2))
        let none = turns.end(2)
        #expect(none == nil)
        #expect(!turns.isBusy("a") && turns.isBusy("b"))
    }

    @Test("that are given up in the middle leave the others theirs")
    func givenUp() {
        var turns = TurnTable<Int>()
        for ticket in 1...3 { turns.take(ticket, for: "a") }
        let middle = turns.end(2)
        #expect(middle == nil)
        let next = turns.end(1)
        #expect(next == 3)
        #expect(turns.isFirst(99))
    }

    @Test("are waited for, and a cancelled wait ends")
    func waiting() async throws {
        let turns = Turns<Int>()
        turns.take(1, for: "a")
        turns.take(2, for: "a")
        turns.take(3, for: "a")
        let second = Task { await turns.wait(2) }
        let third = Task { await turns.wait(3) }
        third.cancel()
        let isThirdDue = await third.value
        #expect(!isThirdDue)
        turns.end(3)
        turns.end(1)
        let isSecondDue = await second.value
        #expect(isSecondDue)
    }
}

@Suite("Requests that may have ended their host")
struct SuspectsTests {
    @Test("are begun three times more, over all hosts, and then no more")
    func limit() {
        var token: [String: Int]?
        for _ in 0..<Suspects.limit {
            var host = Suspects()
            host.inherit(token)
            let mayRun = host.begin("a")
            #expect(mayRun)
            token = host.tokenValue
        }
        var last = Suspects()
        last.inherit(token)
        let mayRun = last.begin("a")
        let another = last.begin("b")
        #expect(!mayRun && another)
    }

    @Test("are forgotten when they are over, and a token that lies does no harm")
    func end() {
        var suspects = Suspects()
        _ = suspects.begin("a")
        suspects.end("a")
        #expect(suspects.tokenValue == nil)
        suspects.inherit(["x": .max, "y": .min])
        let (x, y) = (suspects.begin("x"), suspects.begin("y"))
        #expect(!x && y)
        suspects.inherit(Dictionary(uniqueKeysWithValues: (0..<100_000).map { ("\($0)", 1) }))
        #expect((suspects.tokenValue?.count ?? 0) <= 256)
    }
}

@Suite("Waiting until a node is ready")
struct ReadinessTests {
    @Test("a host of virtual actors that is restarted before it consumes leaves those who wait to the next one")
    func restarted() {
        let system = RPCActorSystem(service: "bank", endpoints: [])
        #expect(system.hosting("account") === system.hosting("account"))
    }
}
