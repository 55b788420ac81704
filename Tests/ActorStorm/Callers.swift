import ActorContracts
import Foundation
import RPCActors
import RPCCaller
import Synchronization

/// When the broker was away: calls may fail then, if their errors say what is true.
final class Outages: Sendable {
    private struct State {
        var isOut = false
        var count = 0
    }

    private let state = Mutex(State())

    /// How many there were, and whether there is one.
    var now: (count: Int, isOut: Bool) { state.withLock { ($0.count, $0.isOut) } }

    func begin() { state.withLock { ($0.isOut, $0.count) = (true, $0.count + 1) } }
    func end() { state.withLock { $0.isOut = false } }
}

/// Callers that call one account each, again and again, and check every answer.
final class Callers: Sendable {
    struct Result {
        var calls = 0
        var failed: [String] = []
        /// While the broker was away.
        var excused = 0
        var wrong: [String] = []
        var durations: [Double] = []
    }

    private let state = Mutex(Result())
    private let isStopped = Atomic(false)
    let outages = Outages()
    private let tasks: Mutex<[Task<Void, Never>]> = Mutex([])

    var result: Result { state.withLock { $0 } }

    func start(_ client: RPCActorSystem, keys: Int, shards: Int) throws {
        for key in 0..<keys {
            let account = try $Account<RPCActorSystem>.resolve(
                id: .virtual("bank", "account", "\(key)", shards: shards),
                using: client
            )
            tasks.withLock { tasks in
                tasks.append(Task { await call(account, key) })
            }
        }
    }

    private func call(_ account: $Account<RPCActorSystem>, _ key: Int) async {
        var expected = 0
        var number: Int64 = 0
        while !isStopped.load(ordering: .acquiring) {
            let begin = ContinuousClock.now
            let outage = outages.now
            do {
                let balance = try await RemoteCall.with(timeout: .seconds(30)) { try await account.add(1) }
                let seconds = begin.duration(to: .now) / .seconds(1)
                expected += 1
                let (last, expects) = (number, expected)
                state.withLock { state in
                    state.calls += 1
                    state.durations.append(seconds)
                    if balance.cents != expects { state.wrong.append("\(key): \(balance.cents) and not \(expects)") }
                    if balance.number < last {
                        state.wrong.append("\(key): the number \(balance.number) after \(last)")
                    }
                    if balance.key != "\(key)" { state.wrong.append("\(key): the answer of \(balance.key)") }
                }
                expected = balance.cents
                number = max(number, balance.number)
            } catch {
                let isExcused = outage.isOut || outages.now != outage
                let text = "\(error)"
                state.withLock { state in
                    if isExcused {
                        state.excused += 1
                    } else {
                        state.failed.append("\(key) after \(begin.duration(to: .now)): \(text)")
                    }
                }
                guard let balance = await read(account) else { return }
                let mayHaveRun = (error as? RPCActorError)?.requestMayHaveBeenProcessed ?? true
                if balance.cents != expected, !mayHaveRun || balance.cents != expected + 1 {
                    let before = expected
                    state.withLock { $0.wrong.append("\(key): \(balance.cents) after \(before) and \(text)") }
                }
                expected = balance.cents
            }
        }
    }

    /// What an account has, as soon as it can be known; `nil` when nobody wants to know any more.
    private func read(_ account: $Account<RPCActorSystem>) async -> Balance? {
        while !isStopped.load(ordering: .acquiring) {
            if let balance = try? await RemoteCall.with(timeout: .seconds(30), { try await account.add(0) }) {
                return balance
            }
            try? await Task.sleep(for: .milliseconds(100))
        }
        return nil
    }

    func stop() async {
        isStopped.store(true, ordering: .releasing)
        for task in tasks.withLock({ $0 }) { await task.value }
    }
}
