import Distributed
import NIOCore
import RPCReceiver

@testable import AMQPPool
@testable import RPCActors
@testable import RPCContract
@testable import RPCWire

/// What must hold for whatever a peer sends to actors: nothing traps, nothing runs that is not exported, and what is decoded is what was
/// encoded.
///
/// Also compiled into Fuzz, which tries it with many more inputs.
enum ActorCheck {
    struct Failure: Error {
        var what: String
    }

    /// Checks one input. Its first byte says what the others are.
    static func check(_ input: [UInt8]) async throws(Failure) {
        guard let kind = input.first else { return }
        let bytes = Array(input.dropFirst())
        switch kind % 6 {
        case 0: try address(String(decoding: bytes, as: UTF8.self))
        case 1: try await request(bytes)
        case 2: try arguments(bytes)
        case 3: event(bytes)
        case 4: thrown(bytes)
        default: try shard(bytes)
        }
    }

    // MARK: Addresses

    private static func address(_ text: String) throws(Failure) {
        if let address = ActorAddress(text) {
            guard ActorAddress(address.description) == address else {
                throw Failure(what: "\(text) does not come back")
            }
            _ = (address.route, address.key)
        }
        let virtual = ActorAddress.virtual("s", "kind", text, shards: text.utf8.count)
        guard virtual.key.utf8.elementsEqual(text.utf8), virtual.route == .shard else {
            throw Failure(what: "the key \(text) is not kept")
        }
    }

    // MARK: Requests

    private static let system = RPCActorSystem(service: "fuzz", endpoints: []) {
        Export(Checked.self, as: $Checkable<RPCActorSystem>.self, errors: CheckError.self)
    }
    private static let actor = Checked(actorSystem: system)

    /// The part up to the first zero is an identifier, the part up to the next a name, the rest the arguments.
    private static func request(_ bytes: [UInt8]) async throws(Failure) {
        let parts = bytes.split(separator: 0, maxSplits: 2, omittingEmptySubsequences: false)
        let target = String(decoding: parts.first ?? [], as: UTF8.self)
        let name = parts.count > 1 ? String(decoding: parts[1], as: UTF8.self) : ""
        let body = ByteBuffer(bytes: parts.count > 2 ? Array(parts[2]) : [])
        let methods = await methods.value
        // As it is; behind what is exported, where it comes nearer to the runtime; and with the methods that there are.
        for identifier in [target, prefix + target, prefix + target + "YaKFTE"] + methods {
            switch await run(identifier, name, body) {
            case .success:
                guard methods.contains(identifier) else { throw Failure(what: "\(identifier) was run") }
            case .failure(let error as RPCFailure):
                let codes = ["unknown_procedure", "undecodable_request", "unencodable_result", "thrown"]
                guard codes.contains(error.code.rawValue) else { throw Failure(what: "\(identifier): \(error)") }
            case .failure(let error): throw Failure(what: "\(identifier): \(error)")
            }
        }
    }

    static let prefix = ExportedInterface(stub: $Checkable<RPCActorSystem>.self).prefix

    /// The identifiers of what is exported.
    static let methods = Task.detached { () -> [String] in
        let id = ActorAddress.service("fuzz", "probe")
        guard let stub = try? $Checkable<RPCActorSystem>.resolve(id: id, using: system) else { return [] }
        let calls: [@Sendable () async throws -> Void] = [
            { _ = try await stub.text("", nil) }, { _ = try await stub.values([:]) },
            { try await stub.fail(CheckError(text: "")) },
        ]
        var found: [String] = []
        for call in calls {
            let recorder = MethodRecorder()
            try? await RemoteCall.$recorder.withValue(recorder) { try await call() }
            if let target = recorder.target { found.append(target.identifier) }
        }
        return found
    }

    private static func run(_ target: String, _ name: String, _ body: ByteBuffer) async -> Result<RPCReply, any Error> {
        let context = RPCContext(procedure: name, headers: ["target": .string(target)])
        do {
            return .success(try await system.run(actor, actor.id, actor.id.incarnation, body, context))
        } catch {
            return .failure(error)
        }
    }

    // MARK: Arguments

    private static func arguments(_ bytes: [UInt8]) throws(Failure) {
        var scanner = ArgumentScanner(ByteBuffer(bytes: bytes))
        var count = 0
        while let element = scanner.next() {
            count += 1
            guard element.readableBytes <= bytes.count, count <= bytes.count else {
                throw Failure(what: "more elements than bytes")
            }
        }
    }

    // MARK: What is said of nodes

    private static let events = NodeEvents(
        system.pool,
        hosted: "fuzz",
        logger: system.logger,
        asked: { _ in },
        recheck: { _ in nil }
    )
    private static let members = events.memberships(of: "fuzz")

    /// The part up to the first zero is the routing key, the rest the body.
    private static func event(_ bytes: [UInt8]) {
        _ = members
        let parts = bytes.split(separator: 0, maxSplits: 1, omittingEmptySubsequences: false)
        let body = parts.count > 1 ? Array(parts[1]) : []
        var keys = [String(decoding: parts[0], as: UTF8.self)]
        // Under the key that it must have, too, where it is decoded.
        if let hello = try? JSON.decode(Membership.Hello.self, from: ByteBuffer(bytes: body)) {
            keys.append(NodeEvent.hello(hello.node))
        }
        if let obituary = try? JSON.decode(NodeEvent.Obituary.self, from: ByteBuffer(bytes: body)) {
            keys.append(NodeEvent.ended(obituary.node))
            keys.append("actor.x")
        }
        for key in keys {
            events.received(
                Delivery(
                    consumerTag: "c",
                    deliveryTag: 1,
                    redelivered: false,
                    exchange: NodeEvent.exchange,
                    routingKey: key,
                    properties: MessageProperties(),
                    body: ByteBuffer(bytes: body)
                )
            )
        }
    }

    // MARK: Errors

    private static func thrown(_ bytes: [UInt8]) {
        guard let details = try? JSON.decode(JSONValue.self, from: ByteBuffer(bytes: bytes)) else { return }
        _ = "\(system.thrown(RPCFailure(code: .thrown, message: "", details: details)))"
        let named: JSONValue = .object(["type": .string(_typeName(CheckError.self, qualified: true)), "value": details])
        _ = "\(system.thrown(RPCFailure(code: .thrown, message: "", details: named)))"
    }

    // MARK: Shards

    /// What a broker and its peers do to a shard, byte by byte; the bytes of a token are JSON of a peer's.
    private static func shard(_ bytes: [UInt8]) throws(Failure) {
        var table = ShardTable(node: "me", count: 2)
        var suspects = Suspects()
        var now = ContinuousClock.now
        var tag: UInt64 = 0
        var numbers: [Int: Int64] = [:]
        var rest = bytes[...]
        while let byte = rest.popFirst() {
            tag += 1
            let shard = Int(byte >> 4) % 3
            let clock = Int64(byte) << 32
            let actions: [ShardTable.Action]
            switch byte % 10 {
            case 0:
                table.consumes(shard)
                actions = table.consumed(shard, consumer: "c", at: now)
            case 1: actions = table.request(tag, shard: shard, at: now)
            case 2:
                let length = Int(rest.popFirst() ?? 0)
                let text = rest.prefix(length)
                rest = rest.dropFirst(length)
                guard let token = try? JSON.decode(ShardToken.self, from: ByteBuffer(bytes: Array(text))) else {
                    continue
                }
                suspects.inherit(token.suspects)
                actions = table.token(token, tag, shard: shard, clock: clock, at: now)
            case 3:
                let token = ShardToken(number: Int64(byte), node: byte % 2 == 0 ? "me" : "other")
                actions = table.token(token, tag, shard: shard, clock: clock, at: now)
            case 4: actions = table.ended(tag &- UInt64(byte >> 4), shard: shard, at: now)
            case 5: actions = table.place(owned: byte & 32 == 0 ? [0, 1] : [1], at: now)
            case 6:
                now += .seconds(Int(byte))
                actions = table.tick(clock: clock, at: now)
            case 7:
                // What goes back.
                _ = table.released(shard, at: now)
                actions = []
            case 8: actions = byte & 128 == 0 ? table.lost(shard) : table.lostAll()
            default: actions = byte & 128 == 0 ? [] : table.stop(at: now)
            }
            for case .publish(let token, let shard) in actions {
                guard token.isPlausible(at: .max) else { throw Failure(what: "the token \(token)") }
                if byte & 64 == 0 { _ = table.confirmed(token, shard: shard) }
            }
            for shard in 0..<2 {
                guard let number = table.number(of: shard) else { continue }
                guard number >= numbers[shard] ?? 0 else {
                    throw Failure(what: "the number \(number) after \(numbers[shard] ?? 0)")
                }
                numbers[shard] = number
            }
        }
    }
}

/// What is asked of an actor.
@Resolvable
protocol Checkable: DistributedActor where ActorSystem: DistributedActorSystem<any Codable> {
    distributed func text(_ text: String, _ number: Int?) async throws -> String
    distributed func values(_ values: [String: [Double]]) async throws -> [Double]
    distributed func fail(_ error: CheckError) async throws
}

struct CheckError: Error, Codable {
    var text: String
    var number: Int?
}

distributed actor Checked: Checkable {
    typealias ActorSystem = RPCActorSystem
    distributed func text(_ text: String, _ number: Int?) -> String { text }
    distributed func values(_ values: [String: [Double]]) -> [Double] { values.values.flatMap { $0 } }
    distributed func fail(_ error: CheckError) throws { throw error }
    /// Exported by nobody.
    distributed func secret() -> String { "secret" }
}
