import DequeModule
import Synchronization

/// How many attempts to connect run at once: the others wait for their turn, in the order in which they came.
///
/// When a broker comes back, a process with many connections would otherwise meet it with all of them at once, TLS and password
/// hashing included.
final class AttemptLimit: Sendable {
    /// For the whole process.
    static let processWide = AttemptLimit(64)

    private struct State {
        var free: Int
        var waiters = Deque<OneShot<Void>>()
    }

    private let state: Mutex<State>

    init(_ limit: Int) {
        state = Mutex(State(free: limit))
    }

    /// Waits for a turn, which is to be given back by ``release()``.
    ///
    /// - Returns: false when the task was cancelled before.
    func acquire() async -> Bool {
        let turn = state.withLock { state -> OneShot<Void>? in
            guard state.free == 0 else {
                state.free -= 1
                return nil
            }
            let turn = OneShot<Void>()
            state.waiters.append(turn)
            return turn
        }
        guard let turn, await turn.wait() == nil else { return true }
        let isWithdrawn = state.withLock { state in
            guard let index = state.waiters.firstIndex(where: { $0 === turn }) else { return false }
            state.waiters.remove(at: index)
            return true
        }
        // Its turn came at the same moment.
        if !isWithdrawn { release() }
        return false
    }

    func release() {
        let next = state.withLock { state -> OneShot<Void>? in
            let next = state.waiters.popFirst()
            if next == nil { state.free += 1 }
            return next
        }
        next?.fire(())
    }
}
