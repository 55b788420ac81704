import AMQPPool
import RPCWire

/// How a receiver is.
public enum RPCReceiverState: Sendable, Hashable {
    /// It does not run: not started, stopped, or about to start again.
    case stopped
    /// It runs and gets no requests: it is not connected, or its queue is not consumed yet. What failed so far is in the error of
    /// ``RPCReceiver/waitUntilReady(timeout:)``.
    case connecting
    /// It gets requests.
    case ready
    /// It gets requests, but the broker accepts no messages at present: replies wait.
    case blocked
    /// It takes no requests because too many handlers ignore their cancellation: see ``RPCReceiver/zombieHandlers``.
    case suspended
    /// It takes no new requests, and answers those in flight.
    case stopping
}

typealias ReceiverStates = LifeStates<ReceiverIncarnation, RPCReceiverState>

extension ReceiverIncarnation {
    var state: RPCReceiverState {
        switch consumers.phase {
        case .stopping: return .stopping
        case .suspended: return .suspended
        case .none: return .connecting
        case .consuming: return registry.poolState == .blocked ? .blocked : .ready
        }
    }
}
