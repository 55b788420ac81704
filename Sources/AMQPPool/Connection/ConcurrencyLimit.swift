internal import ConcurrencyPrimitives
import DequeModule
import Supervision
import Synchronization

/// Limits how many operations run concurrently: others wait for their turn, in order of arrival.
///
/// There is one waiter per suspended task.
final class ConcurrencyLimit: Sendable {
    /// Limits connection attempts of the whole process. When a broker comes back, it would otherwise get all attempts of a process with
    /// many connections at once, including TLS and password hashing.
    static let connecting = ConcurrencyLimit(64)

    enum Admission {
        /// The slot has to be returned by ``release()``.
        case admitted
        case deadline
        case cancelled
    }

    private struct State {
        var free: Int
        var waiters = Deque<OneShot<Bool>>()
    }

    private let state: Mutex<State>

    init(_ limit: Int) {
        state = Mutex(State(free: max(1, limit)))
    }

    /// Waits for a slot.
    ///
    /// - Parameter deadline: The time limit; `nil` for none.
    func acquire(before deadline: ContinuousClock.Instant? = nil) async -> Admission {
        let turn = state.withLock { state -> OneShot<Bool>? in
            guard state.free == 0 else {
                state.free -= 1
                return nil
            }
            let turn = OneShot<Bool>()
            state.waiters.append(turn)
            return turn
        }
        guard let turn else { return .admitted }
        let timer = deadline.map { deadline in
            SystemSupervisionClock.shared.schedule(after: ContinuousClock.now.duration(to: deadline)) {
                turn.set(false)
            }
        }
        defer { timer?.cancel() }
        let isAdmitted = await turn.wait()
        if isAdmitted == true { return .admitted }
        let isWithdrawn = state.withLock { state in
            guard let index = state.waiters.firstIndex(where: { $0 === turn }) else { return false }
            state.waiters.remove(at: index)
            return true
        }
        // Its turn came at the same moment.
        if !isWithdrawn { release() }
        return isAdmitted == nil ? .cancelled : .deadline
    }

    func release() {
        let next = state.withLock { state -> OneShot<Bool>? in
            let next = state.waiters.popFirst()
            if next == nil { state.free += 1 }
            return next
        }
        next?.set(true)
    }
}
