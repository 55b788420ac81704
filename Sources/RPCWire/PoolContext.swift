package import Supervision
import Synchronization

extension ChildContext {
    /// The pool's supervisor, from one of its connections or channels.
    package var poolSupervisor: SupervisorReference {
        var supervisor = supervisor
        while supervisor.name != "pool", let parent = supervisor.parent { supervisor = parent }
        return supervisor
    }

    /// The supervisor of the caller or receiver that owns the pool.
    package var poolOwner: SupervisorReference {
        poolSupervisor.parent ?? poolSupervisor
    }
}

/// Whether a channel has ever been set up: after that a refusal by the broker is a fault of the environment instead of a configuration
/// error.
package final class FirstOpen: Sendable {
    private struct State {
        var hasSucceeded = false
        var refusals = 0
    }

    /// How often in succession the broker has to close the connection because of a declaration before that counts as a configuration error:
    /// a starting cluster refuses declarations that would succeed a moment later.
    private static let maximumRefusals = 3
    private let state = Mutex(State())

    package init() {}

    /// A channel has been set up.
    package func succeeded() {
        state.withLock { $0 = State(hasSucceeded: true) }
    }

    /// Whether this refusal is a configuration error.
    package func isMistake(_ error: RPCTopologyError) -> Bool {
        state.withLock { state in
            if state.hasSucceeded { return false }
            if error.code == 403 || error.code == 406 { return true }
            state.refusals += 1
            return state.refusals >= Self.maximumRefusals
        }
    }
}

/// A flag that is set once.
package final class OnceFlag: Sendable {
    private let flag = Atomic(false)

    package init() {}

    /// Whether it is set.
    package var isSet: Bool { flag.load(ordering: .acquiring) }

    /// Sets the flag.
    package func set() { flag.store(true, ordering: .releasing) }
}
