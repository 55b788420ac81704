package import AMQPPool
import ConcurrencyPrimitives

/// How a caller or receiver is, over all incarnations of its tree.
package final class LifeStates<Incarnation: AnyObject & Sendable, State: Hashable & Sendable>: Sendable {
    private let broadcast: StateBroadcast<State>
    private let current: CurrentIncarnation<Incarnation>
    private let absent: State
    private let state: @Sendable (Incarnation) -> State

    /// - Parameters:
    ///   - current: The incarnation of the tree.
    ///   - absent: How it is while there is none.
    ///   - state: How an incarnation is now.
    package init(
        _ current: CurrentIncarnation<Incarnation>,
        absent: State,
        state: @escaping @Sendable (Incarnation) -> State
    ) {
        broadcast = StateBroadcast(absent)
        self.current = current
        self.absent = absent
        self.state = state
    }

    package var stream: AsyncStream<State> { broadcast.stream }

    /// Something changed that the state may depend on.
    package func update() {
        broadcast.update { current.value.map(state) ?? absent }
    }
}
