import ActorContracts
import Foundation
import RPCActors
import RPCCaller
import Synchronization

/// Callers that call one account each, again and again, and check every answer.
final class Callers: Sendable {
    struct Result {
        var calls = 0
        var failed: [String] = []
        var wrong: [String] = []
        var durations: [Double] = []
    }

    private let state = Mutex(Result())
    private let isStopped = Atomic(false)
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
                let text = "\(error)"
                state.withLock { $0.failed.append("\(key) after \(begin.duration(to: .now)): \(text)") }
                // Whether it was worked on is not known, so what comes next is right.
                if let balance = try? await account.add(0) { expected = balance.cents }
            }
        }
    }

    func stop() async {
        isStopped.store(true, ordering: .releasing)
        for task in tasks.withLock({ $0 }) { await task.value }
    }
}
