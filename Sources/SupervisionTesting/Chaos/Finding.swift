extension Chaos {
    /// A finding of a chaos test.
    public enum Finding: Sendable {
        /// An invariant did not hold, with the error that its check threw.
        case invariant(String, any Error)
        /// Other processes were restarted or removed than expected.
        case unexpected(String, expected: String)
        /// These processes ignored their cancellation, without a simulated hang, and were abandoned.
        case abandoned([String])
        /// These processes were asked to stop and kept running.
        case ignoredStop([String])
        /// Something was still under way in the tree after the time limit.
        case notSettled(tree: String)
        /// A resource was leaked.
        case leak(String)
        /// The tree could not be started, or did not become ready.
        case notStarted(any Error)
        /// A ``Chaos/Fault`` could not be caused, or not be undone.
        case faultFailed(String, any Error)

        /// The kind of finding, to distinguish faults without their details.
        var kind: String {
            switch self {
            case .invariant(let name, _): "invariant \(name)"
            case .unexpected: "unexpected"
            case .abandoned(let paths): "abandoned \(paths)"
            case .ignoredStop(let paths): "ignoredStop \(paths)"
            case .notSettled: "notSettled"
            case .leak: "leak"
            case .notStarted: "notStarted"
            case .faultFailed(let name, _): "faultFailed \(name)"
            }
        }
    }
}

extension Chaos.Finding: CustomStringConvertible {
    /// The finding as a sentence.
    public var description: String {
        switch self {
        case .invariant(let name, let error): "broken: \(name) (\(error))"
        case .unexpected(let actual, let expected): "restarted: \(actual); expected: \(expected)"
        case .abandoned(let paths): "ignores its cancellation: \(paths.joined(separator: ", "))"
        case .ignoredStop(let paths): "was asked to stop and keeps running: \(paths.joined(separator: ", "))"
        case .notSettled(let tree): "the tree does not settle:\n\(tree)"
        case .leak(let what): "left over: \(what)"
        case .notStarted(let error): "the tree did not start: \(error)"
        case .faultFailed(let name, let error): "the fault \(name) failed: \(error)"
        }
    }
}
