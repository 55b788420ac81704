internal import ConcurrencyPrimitives
public import Supervision

extension AMQPPool: HealthReporting {
    /// Its connections that are open, each with where it leads to, since when, and what was agreed on with the broker:
    /// ``AMQPConnection/endpoint`` and ``AMQPConnection/broker``.
    public var connections: [AMQPConnection] { registry.value?.openConnections ?? [] }

    /// Whether it works, and if not, what was tried and failed.
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
    /// One that does not run, because its tree has ended for this reason, if it has.
    package static func absent(_ name: String, because reason: ExitReason?) -> Health.Part {
        switch reason {
        case nil: .notReady(name, why: "starting, or not started yet")
        case .normal, .shutdown(nil): .notReady(name, why: "stopped")
        case .shutdown(let cause?): .dead(name, why: "\(cause)")
        case .killed, .crashed, .noProcess: .dead(name, why: "\(reason.map { "\($0)" } ?? "")")
        }
    }
}
