import AMQPPool
import BrokerSupport
import RPCCaller
import RPCReceiver
import Testing

private enum Tools {
    static let add = RPCProcedure<[Int], Int>("add")
    static let upper = RPCProcedure<String, String>("upper", codec: .text)
}

/// `Python/wire_caller.py` and `wire_receiver.py` were written from docs/wire-protocol.md, not from the library's code.
@Suite(
    "Another implementation of docs/wire-protocol.md",
    .enabled(if: Program.interpreter != nil, "pika is missing: scripts/bootstrap --tests"),
    .timeLimit(.minutes(3))
)
struct ForeignImplementationTests {
    @Test("its caller calls our receiver, and understands every answer")
    func foreignCaller() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await withReceiver("math", url: url) {
                RPCHandler(Tools.add) { numbers, _ in numbers.reduce(0, +) }
                RPCHandler(Tools.upper) { text, _ in text.uppercased() }
                RPCHandler("fail") { (text: String, _) -> Int in
                    throw RPCFailure(code: "out_of_stock", message: text, details: ["left": 2])
                }
                RPCHandler("crash") { (_: Int, _) -> Int in throw Program.Silent(description: "secret") }
                RPCHandler("tenant") { (_: Int, context) in context.headers["tenant"] == "blue" }
                RPCHandler("wait") { (_: Int, context) in
                    try await Task.sleep(for: .seconds(600))
                    return 1
                }
            } _: { receiver in
                let caller = try Program("wire_caller", ["math"], url: url)
                defer { caller.kill() }
                func ask(_ command: JSONValue) async throws -> JSONValue {
                    try caller.say("\(command)")
                    return try JSONValue(parsing: try await caller.line())
                }
                func call(_ procedure: JSONValue, _ body: String, _ type: JSONValue = nil) async throws -> JSONValue {
                    try await ask([
                        "kind": "call", "procedure": procedure, "body": .string(body), "content_type": type,
                        "timeout_ms": 30_000, "headers": ["tenant": "blue"],
                    ])
                }
                #expect(
                    try await call("add", "[4, 9]", "application/json")
                        == ["result": "13", "content_type": "application/json"]
                )
                #expect(try await call("add", "[]") == ["result": "0", "content_type": "application/json"])
                #expect(
                    try await call("upper", "grüße", "text/plain")
                        == ["result": "GRÜSSE", "content_type": "text/plain; charset=utf-8"]
                )
                #expect(
                    try await call("fail", #""only 2""#)
                        == ["error": "out_of_stock", "message": "only 2", "details": ["left": 2]]
                )
                guard case .object(let crash) = try await call("crash", "1"),
                    case .object(let details) = crash["details"]
                else {
                    Issue.record("no details")
                    return
                }
                #expect(crash["error"] == "internal")
                #expect(crash["message"] == "the procedure failed")
                #expect(Set(details.keys) == ["message_id"])
                #expect(try await call("tenant", "1") == ["result": "true", "content_type": "application/json"])
                for (procedure, body, type, code): (JSONValue, String, JSONValue, String) in [
                    ("what", "1", nil, "unknown_procedure"), (nil, "1", nil, "unknown_procedure"),
                    ("add", "{", nil, "undecodable_request"), ("add", "[1]", "text/plain", "unsupported_content_type"),
                ] {
                    guard case .object(let answer) = try await call(procedure, body, type) else {
                        Issue.record("\(procedure)")
                        continue
                    }
                    #expect(answer["error"] == .string(code))
                }
                #expect(
                    try await ask(["kind": "call", "procedure": "wait", "body": "1", "timeout_ms": 200])
                        == ["timeout": true]
                )
                let answered = receiver.counts.answered
                #expect(try await ask(["kind": "cast", "procedure": "add", "body": "[1]"]) == ["sent": true])
                let deadline = ContinuousClock.now + .seconds(30)
                while receiver.counts.answered == answered, ContinuousClock.now < deadline {
                    try await Task.sleep(for: .milliseconds(10))
                }
                #expect(receiver.counts.answered == answered + 1)
                let nobody = try Program("wire_caller", ["nobody"], url: url)
                defer { nobody.kill() }
                try nobody.say(#"{"kind": "call", "procedure": "add", "body": "1", "timeout_ms": 30000}"#)
                #expect(try JSONValue(parsing: try await nobody.line()) == ["unroutable": true])
            }
        }
    }

    @Test("its receiver answers our caller, and finds in each request what the document says")
    func foreignReceiver() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await whileRunning("wire_receiver", ["math"], url: url) { receiver in
                try await withCaller(url: url) { rpc in
                    #expect(try await rpc.call("math", Tools.add, [4, 9], timeout: .seconds(30)) == 13)
                    #expect(try await rpc.call("math", Tools.upper, "grüße", timeout: .seconds(30)) == "GRÜSSE")
                    let failure = await failure { () throws(RPCError) in
                        try await rpc.call("math", "fail", "only 2", timeout: .seconds(30), as: Int.self)
                    }
                    #expect(failure == RPCFailure(code: "out_of_stock", message: "only 2", details: ["left": 2]))
                    let odd = await self.failure { () throws(RPCError) in
                        try await rpc.call("math", "odd", 1, timeout: .seconds(30), as: Int.self)
                    }
                    #expect(odd == RPCFailure(code: "odd", message: "something odd"))
                    let unknown = await self.failure { () throws(RPCError) in
                        try await rpc.call("math", "what", 1, timeout: .seconds(30), as: Int.self)
                    }
                    #expect(unknown?.code == .unknownProcedure)
                    let wrong = RPCProcedure<String, Int>("add", request: .text, response: .json())
                    let unsupported = await self.failure { () throws(RPCError) in
                        try await rpc.call("math", wrong, "x", timeout: .seconds(30))
                    }
                    #expect(unsupported?.code == .unsupportedContentType)

                    let sent: [String: JSONValue] = try await rpc.call("math", "headers", 1, timeout: .seconds(20))
                    #expect(sent["content_type"] == "application/json")
                    #expect(sent["delivery_mode"] == 1)
                    #expect(sent["same_id"] == true)
                    guard case .object(let headers) = sent["headers"], case .integer(let left) = headers["timeout-ms"]
                    else {
                        Issue.record("\(sent)")
                        return
                    }
                    #expect((1...20_000).contains(left))
                    #expect(sent["expiration"] == .string("\(left)"))
                    #expect(headers["destination"] == "math")
                    #expect(headers["procedure"] == "headers")
                    #expect(Set(headers.keys) == ["destination", "procedure", "timeout-ms"])

                    try await rpc.cast("math", Tools.add, [1])
                    #expect(try await receiver.line() == "ran add")
                }
            }
        }
    }

    private func failure<Value>(_ body: () async throws(RPCError) -> Value) async -> RPCFailure? {
        do throws(RPCError) {
            _ = try await body()
            return nil
        } catch {
            guard case .remote(let failure) = error else { return nil }
            return failure
        }
    }
}
