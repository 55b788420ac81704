import SupervisionTesting
import Synchronization

/// Holds the latest of what a test made.
package final class Latest<Value: Sendable>: Sendable {
    private let state = Mutex<Value?>(nil)

    package init() {}

    package func set(_ value: Value) { state.withLock { $0 = value } }

    package func value() throws -> Value {
        guard let value = state.withLock({ $0 }) else { throw Chaos.Invariant.Violation("there is none yet") }
        return value
    }
}

/// A value that several threads change.
package final class Shared<Value: Sendable>: Sendable {
    private let value: Mutex<Value>

    package init(_ value: Value) { self.value = Mutex(value) }

    package func with<Result>(_ body: (inout sending Value) -> sending Result) -> sending Result {
        value.withLock(body)
    }
}
