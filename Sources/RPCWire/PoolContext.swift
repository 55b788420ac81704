package import Supervision
import Synchronization

extension ChildContext {
    /// The pool's supervisor, seen from one of its connections or channels.
    package var poolSupervisor: SupervisorReference {
        var supervisor = supervisor
        while supervisor.name != "pool", let parent = supervisor.parent { supervisor = parent }
        return supervisor
    }

    /// The supervisor of the caller or receiver that the pool belongs to.
    package var poolOwner: SupervisorReference {
        poolSupervisor.parent ?? poolSupervisor
    }
}

/// Whether a channel was ever set up: after that a refusal by the broker is a fault of the environment, and no longer a mistake in the
/// configuration.
package final class FirstOpen: Sendable {
    private struct State {
        var hasSucceeded = false
        var refusals = 0
    }

    /// So often in succession the broker closes the connection for a declaration before that is a mistake: a cluster that is being started
    /// answers so what it would do a moment later.
    private static let maximumRefusals = 3
    private let state = Mutex(State())

    package init() {}

    /// A channel was set up.
    package func succeeded() {
        state.withLock { $0 = State(hasSucceeded: true) }
    }

    /// Whether this refusal shows that the configuration cannot work.
    package func isMistake(_ error: RPCTopologyError) -> Bool {
        state.withLock { state in
            if state.hasSucceeded { return false }
            if error.code == 403 || error.code == 406 { return true }
            state.refusals += 1
            return state.refusals >= Self.maximumRefusals
        }
    }
}

/// Something that happened once, for good.
package final class OnceFlag: Sendable {
    private let flag = Atomic(false)

    package init() {}

    /// Whether it happened.
    package var isSet: Bool { flag.load(ordering: .acquiring) }

    /// It happened.
    package func set() { flag.store(true, ordering: .releasing) }
}
