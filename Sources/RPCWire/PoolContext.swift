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

/// Something that happened once, for good: that a channel was ever ready, after which a refusal by the broker is the
/// environment's fault and not the configuration's.
package final class OnceFlag: Sendable {
    private let flag = Atomic(false)

    package init() {}

    /// Whether it happened.
    package var isSet: Bool { flag.load(ordering: .acquiring) }

    /// It happened.
    package func set() { flag.store(true, ordering: .releasing) }
}
