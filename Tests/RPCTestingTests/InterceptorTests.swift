import AMQPPool
import NIOCore
import RPCCaller
import RPCReceiver
import RPCTesting
import Synchronization
import Testing

/// Does with each call what it is told.
private struct Intercept: RPCCallerInterceptor {
    let body: @Sendable (RPCRequest, RPCCallerNext) async throws(RPCError) -> RPCReply

    init(_ body: @escaping @Sendable (RPCRequest, RPCCallerNext) async throws(RPCError) -> RPCReply) {
        self.body = body
    }

    func intercept(_ request: RPCRequest, next: RPCCallerNext) async throws(RPCError) -> RPCReply {
        try await body(request, next)
    }
}

/// Does with each request what it is told.
private struct InterceptRequest: RPCReceiverInterceptor {
    let body: @Sendable (RPCRequest, RPCContext, RPCReceiverNext) async throws -> RPCReply

    init(_ body: @escaping @Sendable (RPCRequest, RPCContext, RPCReceiverNext) async throws -> RPCReply) {
        self.body = body
    }

    func intercept(_ request: RPCRequest, _ context: RPCContext, next: RPCReceiverNext) async throws -> RPCReply {
        try await body(request, context, next)
    }
}

private func rpc(_ interceptors: [any RPCCallerInterceptor]) -> RPCCaller {
    .inProcess(["math": math]) {
        $0.interceptors = interceptors
        $0.timeout = .seconds(30)
    }
}

private func rpc(receiving interceptors: [any RPCReceiverInterceptor]) -> RPCCaller {
    var configuration = RPCReceiverConfiguration(endpoints: [])
    configuration.interceptors = interceptors
    let receiver = RPCReceiver(service: "math", configuration: configuration, procedures: math)
    return .inProcess(receivers: [receiver]) { $0.timeout = .seconds(30) }
}

@Suite("Interceptors of a caller", .timeLimit(.minutes(5)))
struct CallerInterceptorTests {
    @Test("the first stands outermost, and each sees the request and the reply")
    func order() async throws {
        let seen = Mutex<[String]>([])
        let note = { (name: String) in
            Intercept { request, next throws(RPCError) in
                let about = "\(request.destination)/\(request.procedure ?? "") \(String(buffer: request.body))"
                seen.withLock { $0.append("\(name) \(about)") }
                let reply = try await next(request)
                seen.withLock { $0.append("\(name) \(String(buffer: reply.body))") }
                return reply
            }
        }
        #expect(try await rpc([note("a"), note("b")]).call("math", Math.add, [4, 9]) == 13)
        #expect(seen.withLock { $0 } == ["a math/add [4,9]", "b math/add [4,9]", "b 13", "a 13"])
    }

    @Test("one changes the request, and its headers reach the handler")
    func changes() async throws {
        let rpc = rpc([
            Intercept { request, next throws(RPCError) in
                var request = request
                request.destination = "math"
                request.procedure = "tenant"
                request.headers["tenant"] = "blue"
                request.headers["procedure"] = "forged"
                return try await next(request)
            }
        ])
        let tenant: String? = try await rpc.call("elsewhere", "what", 1)
        #expect(tenant == "blue")
    }

    @Test("one answers in place of the service, with a result or an error")
    func shortCircuit() async throws {
        let answer = rpc([Intercept { _, _ throws(RPCError) in RPCReply(body: ByteBuffer(string: "7")) }])
        #expect(try await answer.call("nobody", "add", [1]) == 7)
        let refuse = rpc([Intercept { _, _ throws(RPCError) in throw .notConnected(why: "a test says so") }])
        let result = await outcome { () throws(RPCError) in try await refuse.call("math", "add", [1], as: Int.self) }
        guard case .failure(.notConnected(why: "a test says so")) = result else {
            Issue.record("\(result)")
            return
        }
    }

    @Test("what it returns is checked and decoded like a reply")
    func changedReply() async {
        let rpc = rpc([
            Intercept { request, next throws(RPCError) in
                var reply = try await next(request)
                reply.contentType = "text/html"
                return reply
            }
        ])
        let result = await outcome { () throws(RPCError) in try await rpc.call("math", Math.add, [1]) }
        guard case .failure(.unexpectedContentType("text/html", _)) = result else {
            Issue.record("\(result)")
            return
        }
    }

    @Test("one that sends again sends a request of its own; the deadline can be shortened and not extended")
    func again() async throws {
        let ids = Mutex<[String?]>([])
        let twice = Intercept { request, next throws(RPCError) in
            ids.withLock { $0.append(request.messageID) }
            _ = try await next(request)
            return try await next(request)
        }
        #expect(try await rpc([twice]).call("math", Math.add, [4, 9]) == 13)
        #expect(ids.withLock { $0 }.compactMap { $0.flatMap(RequestID.init) }.count == 1)

        let change = { (time: Duration) in
            rpc([
                Intercept { request, next throws(RPCError) in
                    var request = request
                    request.deadline = .now + time
                    return try await next(request)
                }
            ])
        }
        for (time, timeout) in [(Duration.milliseconds(20), Duration.seconds(30)), (.seconds(30), .milliseconds(20))] {
            let result = await outcome { () throws(RPCError) in
                try await change(time).call("math", "wait", 1, timeout: timeout, as: Int.self)
            }
            guard case .failure(.timeout) = result else {
                Issue.record("\(result)")
                return
            }
        }
    }

    @Test("it sees casts, and queues, and failures as errors")
    func kinds() async throws {
        let seen = Mutex<[String]>([])
        let rpc = rpc([
            Intercept { request, next throws(RPCError) in
                seen.withLock { $0.append("\(request.kind) \(request.destination)") }
                do throws(RPCError) {
                    return try await next(request)
                } catch {
                    if case .remote(let failure) = error { seen.withLock { $0.append("\(failure.code)") } }
                    throw error
                }
            }
        ])
        try await rpc.cast("math", Math.add, [1])
        _ = try await rpc.callQueue("math.rpcs", Math.add, [1])
        _ = await outcome { () throws(RPCError) in try await rpc.call("math", "fail", "x", as: Int.self) }
        #expect(seen.withLock { $0 } == ["cast math", "call math.rpcs", "call math", "mine"])
    }

    @Test("one can be tested alone")
    func alone() async throws {
        let tenant = Intercept { request, next throws(RPCError) in
            var request = request
            request.headers["tenant"] = "blue"
            return try await next(request)
        }
        let sent = Mutex<RPCRequest?>(nil)
        let next = RPCCallerNext { request throws(RPCError) in
            sent.withLock { $0 = request }
            return RPCReply()
        }
        _ = try await tenant.intercept(RPCRequest(destination: "math", procedure: "add"), next: next)
        #expect(sent.withLock { $0?.headers["tenant"] } == "blue")
    }
}

@Suite("Interceptors of a receiver", .timeLimit(.minutes(5)))
struct ReceiverInterceptorTests {
    @Test("the first stands outermost, and each sees the request, what is known of it, and the reply")
    func order() async throws {
        let seen = Mutex<[String]>([])
        let note = { (name: String) in
            InterceptRequest { request, context, next in
                seen.withLock { $0.append("\(name) \(context.procedure) \(String(buffer: request.body))") }
                let reply = try await next(request, context)
                seen.withLock { $0.append("\(name) \(String(buffer: reply.body))") }
                return reply
            }
        }
        #expect(try await rpc(receiving: [note("a"), note("b")]).call("math", Math.add, [4, 9]) == 13)
        #expect(seen.withLock { $0 } == ["a add [4,9]", "b add [4,9]", "b 13", "a 13"])
    }

    @Test("one changes the request and the reply")
    func changes() async throws {
        let rpc = rpc(receiving: [
            InterceptRequest { request, context, next in
                var request = request
                request.procedure = "add"
                request.body = ByteBuffer(string: "[1,2]")
                var reply = try await next(request, context)
                reply.body = ByteBuffer(string: String(buffer: reply.body) + "0")
                return reply
            }
        ])
        #expect(try await rpc.call("math", "what", "x") == 30)
    }

    @Test("one refuses in place of the procedure: an RPCFailure arrives as it is, another error as internal")
    func refuses() async {
        for (error, code) in [
            (RPCFailure(code: "forbidden", message: "no") as any Error, RPCFailure.Code("forbidden")),
            (Broken(), .internalError),
        ] {
            let rpc = rpc(receiving: [InterceptRequest { _, _, _ in throw error }])
            let result = await outcome { () throws(RPCError) in try await rpc.call("math", Math.add, [1]) }
            guard case .failure(.remote(let failure)) = result else {
                Issue.record("\(result)")
                continue
            }
            #expect(failure.code == code)
        }
    }

    @Test("it sees what the handler threw, unknown procedures and undecodable arguments, and may answer instead")
    func errors() async throws {
        let seen = Mutex<[String]>([])
        let rpc = rpc(receiving: [
            InterceptRequest { request, context, next in
                do {
                    return try await next(request, context)
                } catch {
                    seen.withLock { $0.append("\((error as? RPCFailure)?.code.rawValue ?? "\(type(of: error))")") }
                    return RPCReply(body: ByteBuffer(string: "0"))
                }
            }
        ])
        for procedure in ["crash", "fail", "what", "add", "nan"] {
            #expect(try await rpc.call("math", procedure, 1) == 0)
        }
        #expect(
            seen.withLock { $0 }
                == ["Broken", "undecodable_request", "unknown_procedure", "undecodable_request", "unencodable_result"]
        )
    }

    @Test("one can be tested alone")
    func alone() async throws {
        let doubling = InterceptRequest { request, context, next in
            var reply = try await next(request, context)
            reply.body = ByteBuffer(string: "\(String(buffer: reply.body))\(String(buffer: reply.body))")
            return reply
        }
        let next = RPCReceiverNext { _, _ in RPCReply(body: ByteBuffer(string: "1")) }
        let request = RPCRequest(destination: "math", procedure: "add")
        let reply = try await doubling.intercept(request, RPCContext(), next: next)
        #expect(String(buffer: reply.body) == "11")
    }
}
