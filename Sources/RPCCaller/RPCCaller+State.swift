import AMQPPool
import ConcurrencyPrimitives
public import Supervision

extension RPCCaller: HealthReporting {
    /// The current state; ``states`` has the changes.
    public var state: RPCCallerState {
        if wire != nil { return .ready }
        return current.value?.callerState ?? .stopped
    }

    /// Whether a call would be sent immediately.
    public var isReady: Bool { state == .ready }

    /// Whether it works, and if not, which attempts failed.
    public var health: Health.Part {
        let name = supervisor.name
        return switch state {
        case .ready: .ready(name)
        case .blocked, .connecting: .notReady(name, why: "\(current.value?.registry.reasonForNone ?? .poolNotRunning)")
        case .stopping: .notReady(name, why: "stopping: \(pendingCount) calls wait")
        case .stopped: .absent(name, because: current.ended)
        }
    }
}
