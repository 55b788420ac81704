package import AMQPPool
import ConcurrencyPrimitives

/// The state of a caller or receiver, over all incarnations of its tree.
package final class LifeStates<Incarnation: AnyObject & Sendable, State: Hashable & Sendable>: Sendable {
    private let broadcast: StateBroadcast<State>
    private let current: CurrentIncarnation<Incarnation>
    private let absent: State
    private let state: @Sendable (Incarnation) -> State

    /// - Parameters:
    ///   - current: The incarnation of the tree.
    ///   - absent: The state while there is no incarnation.
    ///   - state: The current state of an incarnation.
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

    /// Something that the state depends on may have changed.
    package func update() {
        broadcast.update { current.value.map(state) ?? absent }
    }
}
