package import ConcurrencyPrimitives
package import Supervision

/// The value offered by the living incarnation of a supervised process. It comes from the tree with this root.
package typealias CurrentIncarnation<Value: AnyObject & Sendable> = Current<Value, Pid, ExitReason>

extension Current where Source == Pid, Reason == ExitReason {
    /// Sets the value of a new incarnation, whose process has this context.
    package func set(_ value: Value, in context: ChildContext) {
        begin(in: context)
        set(value)
    }

    /// The same, unless another incarnation is alive. Returns whether this one is now the living one.
    func claim(_ value: Value, in context: ChildContext) -> Bool {
        guard claim(value) else { return false }
        begin(in: context)
        return true
    }

    /// The tree of this context starts: an incarnation will come from it. When the tree ends, waiters are notified.
    package func begin(in context: ChildContext) {
        let root = context.supervisor.root.pid
        // Once per incarnation of the tree, however often the value is created in it.
        guard begin(from: root) else { return }
        root.onExit { [weak self] reason in self?.end(because: reason, from: root) }
    }

    /// Follows the root phases of its own tree. While there is a value, it came from another tree, which keeps running.
    package func follow(_ phase: Supervisor.RootPhase) {
        switch phase {
        case .starting: whileAbsent(endedBecause: nil)
        case .ended(let reason): whileAbsent(endedBecause: reason)
        }
    }

    /// It is being stopped deliberately: waiters for the next incarnation fail.
    package func stop() { end(because: .shutdown()) }
}
