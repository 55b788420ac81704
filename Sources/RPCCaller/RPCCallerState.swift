import AMQPPool
import RPCWire
import Synchronization

/// How a caller is.
public enum RPCCallerState: Sendable, Hashable {
    /// It does not run: not started, stopped, or about to start again.
    case stopped
    /// It runs, and a call would wait: no channel is ready, or replies would not reach it. What failed so far is in the error of
    /// ``RPCCaller/waitUntilReady(timeout:)``.
    case connecting
    /// A call would be sent at once.
    case ready
    /// It is connected, but the broker accepts no messages at present.
    case blocked
    /// It takes no new calls, and waits for those in flight.
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
