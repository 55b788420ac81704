import AMQPPool
import NIOCore
import RPCCaller
import RPCReceiver
import SupervisionTesting
import Synchronization

/// Clients that call all the time, in every way there is.
package final class Load: Sendable {
    private struct State {
        var ledger = Ledger()
        var clients: [Task<Void, Never>] = []
        var isRunning = false
        var begunSinceResume = 0
        var watcher: (count: Int, continuation: CheckedContinuation<Void, Never>)?
    }

    private let state = Mutex(State())
    private let count: Int
    private let caller: @Sendable () throws -> RPCCaller
    private let pool: @Sendable () throws -> AMQPPool
    /// How long handlers take, at most.
    private static let longest = 150
    /// The queues that requests and messages come from.
    private static let (requests, messages) = ("math.rpcs", "orders")

    /// - Parameter clients: How many calls wait at any time.
    package init(
        clients: Int,
        caller: @escaping @Sendable () throws -> RPCCaller,
        pool: @escaping @Sendable () throws -> AMQPPool
    ) {
        count = clients
        self.caller = caller
        self.pool = pool
    }

    package var ledger: Ledger { state.withLock { $0.ledger } }

    // MARK: The service

    /// What the receiver answers.
    @RPCHandlersBuilder
    package var procedures: [RPCHandler] {
        RPCHandler("echo") { (number: Int, context) in
            self.ran(number, from: Self.requests, isMarked: context.redelivered)
            return number + 1
        }
        RPCHandler("wait") { (number: Int, context) in
            self.ran(number, from: Self.requests, isMarked: context.redelivered)
            try await Task.sleep(for: .milliseconds(number % Self.longest))
            return number + 1
        }
        RPCHandler("refuse") { (number: Int, context) -> Int in
            self.ran(number, from: Self.requests, isMarked: context.redelivered)
            throw RPCFailure(code: "refused", message: "\(number)")
        }
        RPCHandler("reverse") { (text: String, _) in String(text.reversed()) }
    }

    /// What the consumer does with a message.
    package func handle(_ delivery: Delivery) async throws {
        guard let number = Int(String(buffer: delivery.body)) else { return }
        ran(number, from: Self.messages, isMarked: delivery.redelivered)
        try await Task.sleep(for: .milliseconds(number % 20))
    }

    private func ran(_ number: Int, from queue: String, isMarked: Bool) {
        state.withLock { $0.ledger.ran(number, from: queue, isMarked: isMarked) }
    }

    // MARK: The clients

    /// Lets the clients call; returns when all of them do.
    package func resume() async {
        state.withLock { state in
            guard !state.isRunning else { return }
            state.isRunning = true
            state.begunSinceResume = 0
            state.clients = (0..<count).map { client in Task { await self.call(client) } }
        }
        await withCheckedContinuation { continuation in
            let isThere = state.withLock { state in
                if state.begunSinceResume < count { state.watcher = (count, continuation) }
                return state.begunSinceResume >= count
            }
            if isThere { continuation.resume() }
        }
    }

    /// Lets no client begin anything more, and waits until all that they have begun has ended.
    package func pause() async {
        let clients = state.withLock { state in
            defer { state.clients = [] }
            state.isRunning = false
            return state.clients
        }
        for client in clients { await client.value }
    }

    /// See ``Ledger/judge(losesMessages:unmarked:permits:)``.
    package func judge(
        losesMessages: Bool,
        unmarked: Set<String>,
        permits: (String) -> Bool
    ) throws(Chaos.Invariant.Violation) {
        try state.withLock { state throws(Chaos.Invariant.Violation) in
            try state.ledger.judge(losesMessages: losesMessages, unmarked: unmarked, permits: permits)
        }
    }

    private func begin() -> Int? {
        let (number, watcher) = state.withLock { state -> (Int?, CheckedContinuation<Void, Never>?) in
            guard state.isRunning else { return (nil, nil) }
            state.begunSinceResume += 1
            let number = state.ledger.begin()
            guard let watcher = state.watcher, state.begunSinceResume >= watcher.count else { return (number, nil) }
            state.watcher = nil
            return (number, watcher.continuation)
        }
        watcher?.resume()
        return number
    }

    private func call(_ client: Int) async {
        while let number = begin() {
            let (kind, ending, runs) = await one(client, number)
            state.withLock { $0.ledger.end(number, kind, ending, runs: runs) }
        }
    }

    /// Most clients wait for slow handlers; a few do other things.
    private func one(_ client: Int, _ number: Int) async -> (String, Ledger.Ending, runs: Bool) {
        switch client % 20 {
        case 0: return ("cast", await ending { try await $0.cast("math", "wait", number) }, true)
        case 1: return ("message", await publish(number), true)
        case 2: return ("call", await refused(number), true)
        case 3: return ("large call", await large(number), false)
        case 4: return ("cancelled call", await cancelled(number), false)
        case 5: return ("short call", await short(number), false)
        case 6: return ("call of nothing", await unknown(number), false)
        case 7: return ("call", await answered("echo", number), true)
        default: return ("call", await answered("wait", number), true)
        }
    }

    private func answered(_ procedure: String, _ number: Int) async -> Ledger.Ending {
        await ending { rpc in
            let result = try await rpc.call("math", procedure, number, as: Int.self)
            if result != number + 1 { throw Wrong(what: "\(result)") }
        }
    }

    private func large(_ number: Int) async -> Ledger.Ending {
        let text = String(repeating: "\(number) ", count: 20_000)
        return await ending { rpc in
            let result = try await rpc.call("math", "reverse", text, as: String.self)
            if result != String(text.reversed()) { throw Wrong(what: "another text") }
        }
    }

    private func refused(_ number: Int) async -> Ledger.Ending {
        await ending { rpc in
            do {
                let result = try await rpc.call("math", "refuse", number, as: Int.self)
                throw Wrong(what: "\(result)")
            } catch RPCError.remote(let failure) where failure.code == "refused" {
                if failure.message != "\(number)" { throw Wrong(what: "\(failure)") }
            }
        }
    }

    private func unknown(_ number: Int) async -> Ledger.Ending {
        await ending { rpc in
            do {
                let result = try await rpc.call("math", "nothing", number, as: Int.self)
                throw Wrong(what: "\(result)")
            } catch RPCError.remote(let failure) where failure.code == .unknownProcedure {}
        }
    }

    private func short(_ number: Int) async -> Ledger.Ending {
        await ending { rpc in
            do {
                let timeout = Duration.milliseconds(number % 10)
                let result = try await rpc.call("math", "wait", number, timeout: timeout, as: Int.self)
                if result != number + 1 { throw Wrong(what: "\(result)") }
            } catch RPCError.timeout {} catch RPCError.notConnected {} catch RPCError.blocked {}
        }
    }

    private func cancelled(_ number: Int) async -> Ledger.Ending {
        let task = Task { await answered("wait", number) }
        try? await Task.sleep(for: .milliseconds(number % 20))
        task.cancel()
        let ending = await task.value
        if case .failed("cancelled", _) = ending { return .right }
        return ending
    }

    private func publish(_ number: Int) async -> Ledger.Ending {
        do {
            try await pool().publish(
                ByteBuffer(string: "\(number)"),
                routingKey: Self.messages,
                mandatory: true,
                timeout: .seconds(10)
            )
            return .right
        } catch let error as AMQPError {
            // Without a pool the next attempt would come at once, again and again.
            try? await Task.sleep(for: .milliseconds(5))
            return .failed("AMQP \(error.isRetrySafe ? "not sent" : "in doubt")", mayHaveRun: !error.isRetrySafe)
        } catch {
            return .wrong("\(error)")
        }
    }

    private struct Wrong: Error { var what: String }

    private func ending(_ body: (RPCCaller) async throws -> Void) async -> Ledger.Ending {
        do {
            try await body(try caller())
            return .right
        } catch let error as RPCError {
            return .failed(error.name, mayHaveRun: error.requestMayHaveBeenProcessed)
        } catch let wrong as Wrong {
            return .wrong(wrong.what)
        } catch {
            return .wrong("\(error)")
        }
    }
}
