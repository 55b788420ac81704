import BrokerSupport
import NIOCore
import RPCCaller
import RPCReceiver
import Testing

/// What the services of these tests agree on.
enum Declared {
    static let add = RPCProcedure<[Int], Int>("add")
    static let negate = RPCProcedure<Int, Int>(nil)
    static let upper = RPCProcedure<String, String>("upper", codec: .text)
    static let reverse = RPCProcedure<[UInt8], [UInt8]>("reverse", codec: .bytes)
}

@Suite("Calls of declared procedures", .timeLimit(.minutes(2)))
struct DeclaredCallTests {
    @Test("the declaration gives the types, and each body has its content type")
    func calls() async throws {
        try await withServices { services in
            let rpc = services.rpc
            #expect(try await rpc.call("math", Declared.add, [4, 9]) == 13)
            #expect(try await rpc.call("math", Declared.negate, 4) == -4)
            #expect(try await rpc.call("math", Declared.upper, "grüße") == "GRÜSSE")
            let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0) }
            #expect(try await rpc.call("math", Declared.reverse, bytes) == bytes.reversed())
            #expect(try await rpc.call("math", Declared.reverse, []) == [])
            try await rpc.cast("math", Declared.upper, "x")
            try await eventually("the cast has run") { services.receiver.counts.answered == 6 }
        }
    }

    @Test("a request of another content type is refused by the receiver, and nothing ran")
    func wrongRequest() async throws {
        try await withServices { services in
            let wrong = RPCProcedure<String, Int>("add", request: .text, response: .json())
            let result = await outcome { () throws(RPCError) in try await services.rpc.call("math", wrong, "4 9") }
            guard case .failure(.remote(let failure)) = result else {
                Issue.record("\(result)")
                return
            }
            #expect(failure.code == .unsupportedContentType)
            #expect(!RPCError.remote(failure).requestMayHaveBeenProcessed)
        }
    }

    @Test("a result of another content type is an error of its own, which says that the request was processed")
    func wrongReply() async throws {
        try await withServices { services in
            let wrong = RPCProcedure<[Int], String>("add", request: .json(), response: .text)
            let result = await outcome { () throws(RPCError) in try await services.rpc.call("math", wrong, [4, 9]) }
            guard case .failure(.unexpectedContentType("application/json", "text/plain; charset=utf-8")) = result
            else {
                Issue.record("\(result)")
                return
            }
            let error = RPCError.unexpectedContentType("application/json", expected: "text/plain; charset=utf-8")
            #expect(error.requestMayHaveBeenProcessed)
            #expect("\(error)".contains("application/json"))
        }
    }
}
