import NIOCore
import RPCCaller
import RPCReceiver
import RPCTesting
import Synchronization
import Testing

@Suite("Calls without a broker", .timeLimit(.minutes(5)))
struct InProcessTests {
    let rpc = RPCCaller.inProcess(["math": math]) { $0.timeout = .seconds(30) }

    @Test("a call gets its result, by name and by declaration, without being started")
    func calls() async throws {
        #expect(try await rpc.call("math", "add", [4, 9]) == 13)
        #expect(try await rpc.call("math", Math.add, [4, 9]) == 13)
        #expect(try await rpc.call("math", Math.upper, "grüße") == "GRÜSSE")
        #expect(try await rpc.callQueue("math.rpcs", Math.add, [1, 2]) == 3)
    }

    @Test("starting, stopping and waiting until it is ready do what they do with a broker")
    func life() async throws {
        try await rpc.start()
        try await rpc.waitUntilReady(timeout: .seconds(90))
        #expect(try await rpc.call("math", "add", [1]) == 1)
        await rpc.stop()
    }

    @Test(
        "what goes wrong has the same code as over the wire",
        arguments: [
            ("crash", RPCFailure.Code.internalError), ("nan", .unencodableResult), ("add", .undecodableRequest),
            ("subtract", .unknownProcedure), ("upper", .unsupportedContentType),
        ]
    )
    func codes(_ procedure: String, _ code: RPCFailure.Code) async {
        let result = await outcome { () throws(RPCError) in try await rpc.call("math", procedure, 1, as: Int.self) }
        guard case .failure(.remote(let failure)) = result else {
            Issue.record("\(result)")
            return
        }
        #expect(failure.code == code)
        #expect(!"\(failure)".contains("secret"))
    }

    @Test("an internal failure tells under which id the receiver has logged it, and its text only when it may")
    func internalFailure() async {
        let crash = { (rpc: RPCCaller) in
            await outcome { () throws(RPCError) in try await rpc.call("math", "crash", 1, as: Int.self) }
        }
        guard case .failure(.remote(let hidden)) = await crash(rpc), case .object(let details) = hidden.details,
            case .string(let id) = details["message_id"]
        else {
            Issue.record("no id")
            return
        }
        #expect(RequestID(id) != nil)
        var configuration = RPCReceiverConfiguration(endpoints: [])
        configuration.exposesErrors = true
        let open = RPCReceiver(service: "math", configuration: configuration, procedures: math)
        guard case .failure(.remote(let shown)) = await crash(.inProcess(receivers: [open])) else {
            Issue.record("no failure")
            return
        }
        #expect(shown.message == "secret of the receiver")
    }

    @Test("a failure arrives exactly as it was thrown")
    func failure() async {
        let result = await outcome { () throws(RPCError) in try await rpc.call("math", "fail", "no", as: Int.self) }
        guard case .failure(.remote(let failure)) = result else {
            Issue.record("\(result)")
            return
        }
        #expect(failure == RPCFailure(code: "mine", message: "no", details: [1]))
    }

    @Test("a service that is not there is unroutable")
    func unroutable() async {
        let byName = await outcome { () throws(RPCError) in try await rpc.call("nobody", "add", [1], as: Int.self) }
        guard case .failure(.unroutable("nobody")) = byName else {
            Issue.record("\(byName)")
            return
        }
        let byQueue = await outcome { () throws(RPCError) in try await rpc.callQueue("none", Math.add, [1]) }
        guard case .failure(.unroutable("none")) = byQueue else {
            Issue.record("\(byQueue)")
            return
        }
    }

    @Test("a call ends at its deadline, and when its task is cancelled")
    func ends() async {
        let late = await outcome { () throws(RPCError) in
            try await rpc.call("math", "wait", 1, timeout: .milliseconds(20), as: Int.self)
        }
        guard case .failure(.timeout(requestMayHaveBeenDelivered: true)) = late else {
            Issue.record("\(late)")
            return
        }
        let task = Task { await outcome { () throws(RPCError) in try await rpc.call("math", "wait", 1, as: Int.self) } }
        task.cancel()
        guard case .failure(.cancelled) = await task.value else {
            Issue.record("not cancelled")
            return
        }
    }

    @Test("a nested call inherits what is left of the deadline")
    func nested() async throws {
        let inner = RPCCaller.inProcess(["math": math]) { $0.timeout = .seconds(500) }
        let isInherited = Mutex<Bool?>(nil)
        let outer = RPCCaller.inProcess([
            "front": RPCHandlers {
                RPCHandler("ask") { (_: Int, context) -> Int in
                    let result = await outcome { () throws(RPCError) in
                        try await inner.call("math", "wait", 1, as: Int.self)
                    }
                    // The deadline cancels this task too, at the same moment.
                    let hasEnded = if case .failure(.timeout) = result { true } else { Task.isCancelled }
                    isInherited.withLock { $0 = hasEnded && context.remaining <= .zero }
                    return 1
                }
            }
        ])
        // Its answer may still come before the outer deadline is seen to be over, which is the same one.
        _ = await outcome { () throws(RPCError) in
            try await outer.call("front", "ask", 1, timeout: .milliseconds(200), as: Int.self)
        }
        #expect(try await eventually { isInherited.withLock { $0 } != nil })
        #expect(isInherited.withLock { $0 } == true)
    }

    @Test("a receiver's own limits hold: handlers over their time, and no more of them than may run")
    func limits() async throws {
        var configuration = RPCReceiverConfiguration(endpoints: [])
        configuration.handlerTimeLimit = .milliseconds(20)
        let receiver = RPCReceiver(service: "math", configuration: configuration, procedures: math)
        let rpc = RPCCaller.inProcess(receivers: [receiver]) { $0.timeout = .seconds(30) }
        let result = await outcome { () throws(RPCError) in try await rpc.call("math", "wait", 1, as: Int.self) }
        guard case .failure(.remote(let failure)) = result else {
            Issue.record("\(result)")
            return
        }
        #expect(failure.code == .handlerTimeout)
        #expect(receiver.counts.timedOut == 1)
    }

    @Test("a cast runs, and a requeued request comes again, redelivered")
    func castAndRequeue() async throws {
        let runs = Mutex<[Bool]>([])
        var configuration = RPCReceiverConfiguration(endpoints: [])
        configuration.onFailure = .requeueOnce
        let receiver = RPCReceiver(
            service: "math",
            configuration: configuration,
            procedures: RPCHandlers {
                RPCHandler("once") { (_: Int, context) -> Int in
                    runs.withLock { $0.append(context.redelivered) }
                    if !context.redelivered { throw Broken() }
                    return 1
                }
            }
        )
        let rpc = RPCCaller.inProcess(receivers: [receiver]) { $0.timeout = .seconds(30) }
        #expect(try await rpc.call("math", "once", 1) == 1)
        #expect(runs.withLock { $0 } == [false, true])
        try await rpc.cast("math", "once", 1)
        #expect(try await eventually { runs.withLock { $0.count } == 4 })
    }

    @Test("a cast runs also when its caller is let go of at once")
    func castOfNobody() async throws {
        let ran = Mutex(false)
        try await RPCCaller.inProcess([
            "math": RPCHandlers {
                RPCHandler("note") { (_: Int, _) in
                    ran.withLock { $0 = true }
                    return 1
                }
            }
        ]).cast("math", "note", 1)
        #expect(try await eventually { ran.withLock { $0 } })
    }
}
