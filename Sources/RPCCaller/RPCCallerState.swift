import AMQPPool
import RPCWire
import Synchronization

/// The state of a caller.
public enum RPCCallerState: Sendable, Hashable {
    /// It is not running: not started, stopped, or restarting.
    case stopped
    /// It is running, but a call would wait: no channel is ready, or replies would not arrive. The error of
    /// ``RPCCaller/waitUntilReady(timeout:)`` has the failures so far.
    case connecting
    /// A call would be sent immediately.
    case ready
    /// It is connected, but the broker accepts no messages at present.
    case blocked
    /// It accepts no new calls, and waits for those in flight.
    case stopping
}

typealias CallerStates = LifeStates<CallTable, RPCCallerState>

extension CallTable {
    var callerState: RPCCallerState {
        let (isDraining, canBeAnswered) = state.withLock { ($0.pending.isDraining, $0.canBeAnswered) }
        if isDraining { return .stopping }
        return switch registry.poolState {
        case .ready: canBeAnswered ? .ready : .connecting
        case .blocked: .blocked
        case .connecting, .stopped: .connecting
        }
    }
}
