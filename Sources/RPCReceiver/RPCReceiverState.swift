import AMQPPool
import RPCWire

/// The state of a receiver.
public enum RPCReceiverState: Sendable, Hashable {
    /// It is not running: not started, stopped, or restarting.
    case stopped
    /// It is running but gets no requests: it is not connected, or does not consume its queue yet. The error of
    /// ``RPCReceiver/waitUntilReady(timeout:)`` has the failures so far.
    case connecting
    /// It gets requests.
    case ready
    /// It gets requests, but the broker accepts no messages at present: replies wait.
    case blocked
    /// It accepts no requests because too many handlers ignore their cancellation: see ``RPCReceiver/zombieHandlers``.
    case suspended
    /// It accepts no new requests, and answers those in flight.
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
