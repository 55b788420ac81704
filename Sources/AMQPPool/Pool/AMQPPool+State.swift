internal import ConcurrencyPrimitives
public import Supervision

extension AMQPPool: HealthReporting {
    /// The open connections, each with its endpoint and its broker: ``AMQPConnection/endpoint`` and ``AMQPConnection/broker``.
    public var connections: [AMQPConnection] { registry.value?.openConnections ?? [] }

    /// Whether the pool works, and if not, which attempts failed.
    public var health: Health.Part {
        let name = supervisor.name
        return switch state {
        case .ready: .ready(name)
        case .blocked, .connecting: .notReady(name, why: "\(registry.value?.reasonForNone ?? .poolNotRunning)")
        case .stopped: .absent(name, because: registry.ended)
        }
    }
}

extension Health.Part {
    /// The health of something that is not running because its tree has ended, with the reason if there is one.
    package static func absent(_ name: String, because reason: ExitReason?) -> Health.Part {
        switch reason {
        case nil: .notReady(name, why: "starting, or not started yet")
        case .normal, .shutdown(nil): .notReady(name, why: "stopped")
        case .shutdown(let cause?): .dead(name, why: "\(cause)")
        case .killed, .crashed, .noProcess: .dead(name, why: "\(reason.map { "\($0)" } ?? "")")
        }
    }
}
