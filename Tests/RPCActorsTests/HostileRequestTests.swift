import AMQPPool
import ActorContracts
import BrokerSupport
import NIOCore
import RPCActors
import RPCCaller
import RPCWire
import Testing

/// Whatever a peer sends: an answer, and never a trap. (A trap would end the test process.)
@Suite("Requests of any peer", .timeLimit(.minutes(4)))
struct HostileRequestTests {
    /// What a peer may put into a request.
    private struct Request: Sendable {
        var actor: FieldValue? = "teller"
        var target: FieldValue?
        var procedure: String? = "Teller.greet(name:)"
        var body = #"["Ann"]"#
        var destination = "bank"
        var isQueue = false
    }

    private func send(_ request: Request, _ client: RPCActorSystem) async -> Result<String, RPCError> {
        var headers = FieldTable()
        headers["actor"] = request.actor
        headers["target"] = request.target
        do throws(RPCError) {
            let reply = try await client.caller.call(
                request.destination,
                isQueue: request.isQueue,
                procedure: request.procedure,
                contentType: "application/json",
                headers: headers,
                body: ByteBuffer(string: request.body),
                // Only what is lost comes to it, however busy the machine is.
                timeout: .seconds(120),
                retry: .never
            )
            return .success(String(buffer: reply.body))
        } catch {
            return .failure(error)
        }
    }

    private func code(_ request: Request, _ client: RPCActorSystem) async -> String {
        switch await send(request, client) {
        case .success(let body): "result \(body)"
        case .failure(.remote(let failure)): failure.code.rawValue
        case .failure(let error): "\(error)"
        }
    }

    private static let greet = "$s14ActorContracts7$TellerC5greet4nameS2S_tYaKFTE"

    @Test("a client in another language names the method, and needs no identifier")
    func byName() async throws {
        try await Bank.with { _, client, _, _ in
            #expect(await code(Request(), client) == #"result "hello, Ann""#)
            #expect(await code(Request(target: .void), client) == #"result "hello, Ann""#)
            #expect(await code(Request(procedure: "Teller.nothing()"), client) == "unknown_procedure")
            #expect(await code(Request(procedure: nil), client) == "unknown_procedure")
            #expect(await code(Request(procedure: "Auditor.audit()", body: "[]"), client) == "unknown_procedure")
            #expect(await code(Request(actor: "nobody"), client) == "no_process")
            #expect(await code(Request(actor: nil), client) == "unknown_procedure")
            #expect(await code(Request(actor: .int64(3)), client) == "unknown_procedure")
            #expect(await code(Request(actor: ""), client) == "undecodable_request")
            let isRefused = await code(
                Request(procedure: "Teller.transfer(_:note:)", body: #"[{"from":"a","to":"b","cents":101}, null]"#),
                client
            )
            #expect(isRefused == "thrown")
        }
    }

    @Test(
        "arguments that are not what the method takes are said to be so",
        arguments: [
            "", "[", "[]", "[7]", "{}", "null", "[null]", "[[]]", "\"Ann\"", "[\"a",
            String(repeating: "[", count: 100_000),
        ]
    )
    func arguments(_ body: String) async throws {
        try await Bank.with { _, client, _, _ in
            #expect(await code(Request(body: body), client) == "undecodable_request")
            #expect(await code(Request(), client) == #"result "hello, Ann""#)
        }
    }

    @Test("an identifier that this version does not have is the method of the same name")
    func fallback() async throws {
        try await Bank.with { _, client, _, _ in
            #expect(await code(Request(target: .string(Self.greet)), client) == #"result "hello, Ann""#)
            let other = "$s14ActorContracts7$TellerC5greet4name5timesS2S_SitYaKFTE"
            #expect(await code(Request(target: .string(other)), client) == #"result "hello, Ann""#)
            #expect(
                await code(Request(target: .string(other), procedure: "Teller.greet(name:times:)"), client)
                    == "unknown_procedure"
            )
        }
    }

    @Test("no identifier of anything else is run, whatever it looks like")
    func identifiers() async throws {
        try await Bank.with { _, client, _, _ in
            var generator = SystemRandomNumberGenerator()
            let known = [
                Self.greet, "$s14ActorContracts6$VaultC4openSSyYaKFTE",
                "$s14ActorContracts5$EchoC4echoyqd__qd__YaKSeRd__SERd__lFTE",
                "$s14ActorContracts7$LedgerC3addyS2iYaKFTE", "$s15RPCActorsTests10BankTellerC3robSSyYaKFTE",
            ]
            var targets = [
                "", "$s", "$s14ActorContracts7$TellerC", "$s14ActorContracts7$TellerCYaKFTE",
                "$s14ActorContracts7$TellerC0YaKFTE", "\u{0}",
            ]
            targets += known.dropFirst()
            targets += ["$s14ActorContracts7$TellerC" + String(repeating: "9", count: 500) + "YaKFTE"]
            targets += ["$s14ActorContracts7$TellerC" + String(repeating: "5greet4name", count: 100) + "YaKFTE"]
            let alphabet = Array("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_$")
            for _ in 0..<300 {
                // Behind what is exported, where it comes to the runtime; and anywhere.
                var bytes = Array((known.randomElement(using: &generator) ?? "").dropLast(6))
                for _ in 0..<Int.random(in: 1...6, using: &generator) {
                    let index = Int.random(in: 0..<bytes.count, using: &generator)
                    switch Int.random(in: 0..<3, using: &generator) {
                    case 0: bytes[index] = alphabet.randomElement(using: &generator) ?? "x"
                    case 1: bytes.insert(alphabet.randomElement(using: &generator) ?? "x", at: index)
                    default: bytes.remove(at: index)
                    }
                }
                targets.append(String(bytes) + "YaKFTE")
            }
            for target in targets {
                for actor in ["teller", "vault", "echo", "office"] {
                    let result = await code(
                        Request(actor: .string(actor), target: .string(target), procedure: "x", body: "[1]"),
                        client
                    )
                    #expect(
                        ["unknown_procedure", "undecodable_request"].contains(result),
                        "\(target) of \(actor): \(result)"
                    )
                }
            }
            #expect(await code(Request(target: .int64(1)), client) == "undecodable_request")
            #expect(await code(Request(), client) == #"result "hello, Ann""#)
        }
    }

    @Test(
        "a request in a shard's queue for a key of another shard, or for nothing, is no process; a forged token does no harm"
    )
    func shards() async throws {
        try await Bank.with { nodes, client, _, _ in
            let alice = ActorAddress.virtual("bank", "account", "alice", shards: Bank.shards)
            let account = try $Account<RPCActorSystem>.resolve(id: alice, using: client)
            let before = try await account.add(1)
            let other = try #require(
                (0..<100).map { ActorAddress.virtual("bank", "account", "\($0)", shards: Bank.shards) }.first {
                    $0.destination != alice.destination
                }
            )
            for actor in [other.name, "account/", "account", "teller", "", "x/y"] {
                let result = await code(
                    Request(
                        actor: .string(actor),
                        procedure: "Account.crash()",
                        body: "[]",
                        destination: alice.destination,
                        isQueue: true
                    ),
                    client
                )
                #expect(["no_process", "unknown_procedure"].contains(result), "\(actor): \(result)")
            }
            for body in [
                "", "{}", #"{"number": -1, "node": ""}"#, #"{"number": 9223372036854775807, "node": "x"}"#,
                #"{"number": 9223372036854775807, "node": "\#(nodes[0].actors.node)"}"#,
            ] {
                try await client.pool.publish(
                    ByteBuffer(string: body),
                    properties: MessageProperties(priority: 1, type: "shard-token"),
                    routingKey: alice.destination,
                    mandatory: true
                )
            }
            let after = try await account.add(1)
            #expect(after.cents == before.cents + 1)
            #expect(after.number >= before.number)
        }
    }
}
