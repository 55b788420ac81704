import LocalBroker
import RPCCaller
import RPCReceiver
import Supervision
import SupervisionTesting

/// The steps of the demo.
struct DemoScenes {
    static let service = "demo-math"

    let rpc: RPCCaller
    let receiver: RPCReceiver
    let view: BrokerView
    let transcript: Transcript

    private var tree: LiveTree { LiveTree(rpc.supervisor) }

    // MARK: Calls

    func calls() async throws {
        transcript.title("The caller is a supervision tree")
        transcript.say(rpc.tree().description)

        transcript.title("Calls")
        await observe("add [4, 9] is 13") {
            try await call("add", [4, 9])
        } is: {
            $0 == "13"
        }
        await observe("fib 30 is 832040") {
            try await call("fib", 30)
        } is: {
            $0 == "832040"
        }
        await observe("fail \"no luck\" is a remote error with that text") {
            try await call("fail", "no luck")
        } is: {
            $0.contains("no luck") && $0.contains("failed")
        }
        let start = ContinuousClock.now
        await observe("a service that does not exist is unroutable, long before the timeout of 5 s") {
            let _: JSONValue = try await rpc.call("demo-nobody", "add", [1], timeout: .seconds(5))
            return "a result"
        } is: {
            $0.contains("demo-nobody") && start.duration(to: .now) < .seconds(4)
        }
        await observe("sleep 5 with a timeout of 300 ms has no reply before the deadline") {
            try await call("sleep", 5, timeout: .milliseconds(300))
        } is: {
            $0.contains("no reply before the deadline")
        }
    }

    // MARK: Kills

    func killChannel() async throws {
        try await killWithoutLoss("channel-1", what: "a channel")
    }

    func killConnection() async throws {
        try await killWithoutLoss("connection", what: "a connection, and its channel with it")
    }

    /// Kills a process below the pool while a call is waiting: the reply queue survives and the call is answered.
    private func killWithoutLoss(_ name: String, what: String) async throws {
        transcript.title("Kill \(what)")
        let queue = rpc.replyQueueName ?? "?"
        let waiting = Task { await outcome { try await call("sleep", 1.5, timeout: .seconds(20)) } }
        try await waitUntilHandling()
        guard let victim = tree.processes.first(where: { $0.path.split(separator: "/").last == Substring(name) }) else {
            transcript.check("a process called \(name)", false, observed: "none:\n\(rpc.tree())")
            return
        }
        try tree.end(victim.path)
        transcript.say("  killed    \(victim.path) \(victim.pid)")
        let kept = try await view.consumers(of: queue)
        transcript.check(
            "the reply queue is still on the broker",
            kept != nil,
            observed: "\(queue) has \(kept.map(String.init) ?? "no queue, no") consumer(s)"
        )
        let answer = await waiting.value
        transcript.check("the call that was waiting is answered", answer == "1.5", observed: answer)
        try await tree.restarted()
        let consumers = try await view.consumers(of: queue) { $0 == 2 }
        transcript.check(
            "it was restarted, and both channels consume the same queue",
            consumers == 2 && rpc.replyQueueName == queue && isReplaced(victim),
            observed: "\(consumers ?? 0) consumers on \(rpc.replyQueueName ?? "nothing"), "
                + "new process \(replacement(of: victim)?.description ?? "missing")"
        )
        await nextCall()
    }

    func killPendingRequests() async throws {
        transcript.title("Kill the pending-request store")
        let before = rpc.replyQueueName ?? "?"
        let waiting = Task { await timed { try await call("sleep", 10, timeout: .seconds(20)) } }
        try await waitUntilHandling()
        let killed = ContinuousClock.now
        let path = "caller/pending"
        let pid = try tree.end(path)
        transcript.say("  killed    \(path) \(pid)")
        let (answer, end) = await waiting.value
        let took = killed.duration(to: end)
        transcript.check(
            "the waiting call fails at once, with the reason",
            answer.contains("the caller was stopped or restarted: killed") && took < .seconds(3),
            observed: "\(answer) (after \(took.short))"
        )
        let left = try await view.consumers(of: before) { $0 == nil }
        transcript.check(
            "the whole pool went down, and the broker deleted the old reply queue",
            left == nil,
            observed: left == nil ? "the broker does not know \(before)" : "\(before) has \(left ?? 0) consumers"
        )
        try await rpc.waitUntilReady(timeout: .seconds(20))
        let after = rpc.replyQueueName ?? "?"
        let consumers = try await view.consumers(of: after) { $0 == 2 }
        transcript.check(
            "the tree is back, with a new reply queue",
            after != before && consumers == 2,
            observed: "\(after) has \(consumers ?? 0) consumers"
        )
        transcript.say(rpc.tree().description)
        await nextCall()
    }

    func killBroker(_ broker: LocalBroker) async throws {
        transcript.title("Kill the broker (kill -9), and start it again")
        let waiting = Task { await timed { try await call("sleep", 30, timeout: .seconds(60)) } }
        try await waitUntilHandling()
        let process = await broker.processID.map(String.init) ?? "?"
        let killed = ContinuousClock.now
        try await broker.kill()
        transcript.say("  killed    the OS process \(process)")
        let (answer, end) = await waiting.value
        let took = killed.duration(to: end)
        transcript.check(
            "the waiting call fails at once: its reply queue is lost",
            took < .seconds(5) && answer != "30",
            observed: "\(answer) (after \(took.short))"
        )
        transcript.check(
            "the caller's tree is alive, and connects in the background",
            rpc.supervisor.pid?.isAlive == true,
            observed: rpc.supervisor.pid.map { "\($0) is alive" } ?? "it is down"
        )
        try await broker.startAgain()
        try await receiver.waitUntilReady(timeout: .seconds(30))
        try await rpc.waitUntilReady(timeout: .seconds(30))
        transcript.say("  started   the broker again, on the same port")
        await nextCall()
    }

    // MARK: Parts

    private func nextCall() async {
        await observe("the next call works: add [4, 9] is 13") {
            try await call("add", [4, 9])
        } is: {
            $0 == "13"
        }
    }

    private func call(_ procedure: String, _ argument: JSONValue, timeout: Duration = .seconds(5)) async throws
        -> String
    {
        let result: JSONValue = try await rpc.call(DemoScenes.service, procedure, argument, timeout: timeout)
        return result.description
    }

    /// The result, or the error, as text.
    private func outcome(_ body: () async throws -> String) async -> String {
        do {
            return try await body()
        } catch {
            return "\(error)"
        }
    }

    private func timed(_ body: () async throws -> String) async -> (String, ContinuousClock.Instant) {
        (await outcome(body), .now)
    }

    private func observe(
        _ expected: String,
        _ body: () async throws -> String,
        is isExpected: (String) -> Bool
    ) async {
        let start = ContinuousClock.now
        let observed = await outcome(body)
        transcript.check(expected, isExpected(observed), observed: "\(observed) (\(start.duration(to: .now).short))")
    }

    /// Waits until the receiver runs the request that has just been sent.
    private func waitUntilHandling() async throws {
        let deadline = ContinuousClock.now + .seconds(10)
        while !receiver.look().oldest.contains(where: { $0.procedure == "sleep" }), ContinuousClock.now < deadline {
            try await Task.sleep(for: .milliseconds(10))
        }
    }

    private func replacement(of victim: LiveTree.Process) -> Pid? {
        tree.processes.first { $0.path == victim.path }?.pid
    }

    private func isReplaced(_ victim: LiveTree.Process) -> Bool {
        guard let pid = replacement(of: victim) else { return false }
        return pid != victim.pid && pid.isAlive
    }
}
