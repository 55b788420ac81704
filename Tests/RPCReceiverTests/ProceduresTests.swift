import RPCReceiver
import RPCWire
import Testing

@Suite("Procedures in process")
struct ProceduresTests {
    struct NotForCallers: Error {}

    let math = RPCHandlers {
        RPCHandler("add") { (args: [Int], _) in args.reduce(0, +) }
        RPCHandler("fail") { (message: String, _) -> Int in
            throw RPCFailure(code: "mine", message: message, details: [1])
        }
        RPCHandler("crash") { (_: Int, _) -> Int in throw NotForCallers() }
        RPCHandler("nan") { (_: Int, _) in Double.nan }
        RPCHandler("echo") { (value: JSONValue, _) in value }
        RPCHandler("redelivered") { (_: Int, context) in context.redelivered }
    }

    @Test("a procedure answers with its result")
    func add() async throws {
        let sum: Int = try await math.call("add", [4, 9])
        #expect(sum == 13)
        #expect(try await math.call("echo", JSONValue.null, as: JSONValue.self) == .null)
        #expect(try await math.call("redelivered", 1, context: RPCContext(redelivered: true), as: Bool.self))
    }

    @Test("a failure arrives exactly as it was thrown")
    func failure() async {
        await #expect(throws: RPCFailure(code: "mine", message: "no", details: [1])) {
            try await math.call("fail", "no", as: Int.self)
        }
    }

    @Test(
        "what goes wrong has a code",
        arguments: [
            ("crash", 1, RPCFailure.Code.internalError), ("nan", 1, .unencodableResult),
            ("add", 1, .undecodableRequest),
            ("subtract", 1, .unknownProcedure),
        ]
    )
    func codes(_ procedure: String, _ argument: Int, _ code: RPCFailure.Code) async {
        await #expect {
            try await math.call(procedure, argument, as: Int.self)
        } throws: { error in
            (error as? RPCFailure)?.code == code && !"\(error)".contains("NotForCallers")
        }
    }

    @Test("the builder takes conditions, loops and procedures made elsewhere")
    func builder() {
        let wanted = true
        let procedures = RPCHandlers {
            if wanted { RPCHandler("a") { (n: Int, _) in n } }
            for name in ["b", "c"] { RPCHandler(name) { (n: Int, _) in n } }
            [RPCHandler("d") { (n: Int, _) in n }]
        }
        #expect(procedures.names == ["a", "b", "c", "d"])
    }
}
