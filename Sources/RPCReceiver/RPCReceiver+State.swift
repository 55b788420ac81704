import AMQPPool
internal import ConcurrencyPrimitives
public import Supervision

extension RPCReceiver: HealthReporting {
    /// The current state; ``states`` has the changes.
    public var state: RPCReceiverState { current.value?.state ?? .stopped }

    /// Whether it gets requests and can answer them.
    public var isReady: Bool { state == .ready }

    /// Whether it works, and if not, which attempts failed.
    public var health: Health.Part {
        let name = supervisor.name
        return switch state {
        case .ready: .ready(name)
        case .blocked: .notReady(name, why: "\(current.value?.registry.reasonForNone ?? .poolNotRunning)")
        case .connecting: .notReady(name, why: current.value?.reasonForNone ?? "starting")
        case .suspended: .notReady(name, why: "\(zombieHandlers) handlers ignore their cancellation")
        case .stopping: .notReady(name, why: "stopping: \(inFlight) requests are answered")
        case .stopped: .absent(name, because: current.ended)
        }
    }
}

extension ReceiverIncarnation {
    /// Why it gets no requests.
    fileprivate var reasonForNone: String {
        if let fault = consumers.topologyFault { return fault }
        return registry.channels.isEmpty ? "\(registry.reasonForNone)" : "the queue is not consumed"
    }
}
