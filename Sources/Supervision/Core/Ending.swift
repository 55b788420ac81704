extension SupervisorCore {
    /// Why the supervisor is on its way out, `nil` while it is not.
    var endingReason: ExitReason? {
        switch phase {
        case .killing: return .killed
        case .stopping:
            if case .shutdown(let reason) = operation?.purpose { return reason }
            return .shutdown()
        case .initial, .booting, .running, .finished: return nil
        }
    }
}

extension Decisions {
    /// Why the supervisor is on its way out, `nil` while it is not.
    var endingReason: ExitReason? {
        switch phase {
        case .killing: .killed
        case .stopping: orderedEndingReason ?? .shutdown()
        case .initial, .booting, .running, .finished: nil
        }
    }
}
