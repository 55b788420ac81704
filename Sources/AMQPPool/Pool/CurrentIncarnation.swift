package import ConcurrencyPrimitives
package import Supervision

/// What the living incarnation of a supervised process offers. It comes from the tree with this root.
package typealias CurrentIncarnation<Value: AnyObject & Sendable> = Current<Value, Pid, ExitReason>

extension Current where Source == Pid, Reason == ExitReason {
    /// A new incarnation is there, whose process has this context.
    package func set(_ value: Value, in context: ChildContext) {
        begin(in: context)
        set(value)
    }

    /// The same, unless another incarnation is alive. Returns whether this one is the living one now.
    package func claim(_ value: Value, in context: ChildContext) -> Bool {
        guard claim(value) else { return false }
        begin(in: context)
        return true
    }

    /// The tree of this context starts: an incarnation will come from it. When the tree ends, those who wait are told.
    package func begin(in context: ChildContext) {
        let root = context.supervisor.root.pid
        // Once for each incarnation of the tree, however often the value is made anew in it.
        guard begin(from: root) else { return }
        root.onExit { [weak self] reason in self?.end(because: reason, from: root) }
    }

    /// What becomes of the tree, when it is one of its own. While there is a value it came from another tree, which goes on.
    package func follow(_ phase: Supervisor.RootPhase) {
        switch phase {
        case .starting: whileAbsent(endedBecause: nil)
        case .ended(let reason): whileAbsent(endedBecause: reason)
        }
    }

    /// It is being stopped on purpose: those who need the next incarnation wait in vain.
    package func stop() { end(because: .shutdown()) }
}
