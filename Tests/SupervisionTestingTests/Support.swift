import Logging
import Supervision
import SupervisionTesting
import Synchronization
import Testing

let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// An actor without `run()`.
actor Keeper {
    private var values: [String: Int] = [:]

    func set(_ key: String, _ value: Int) { values[key] = value }
    func get(_ key: String) -> Int? { values[key] }
}

/// A worker that waits to be stopped.
actor Waiter: Worker {
    private let stop: StopRequest?

    /// `asked`: whether it takes its stop request, or is one that is cancelled.
    init(_ context: ChildContext, asked: Bool = true) { stop = asked ? context.stopRequest : nil }

    func run() async throws {
        if let stop {
            await stop.wait()
        } else {
            try await Task.sleep(for: .seconds(3600))
        }
    }
}

/// A value that survives restarts, as it should not.
final class Shared<Value: Sendable>: Sendable {
    private let value: Mutex<Value>

    init(_ value: Value) { self.value = Mutex(value) }

    func with<R: Sendable>(_ body: (inout sending Value) -> sending R) -> R { value.withLock(body) }
}

/// What chaos found, or nothing.
func failure(_ body: () async throws -> Void) async throws -> Chaos.Failure? {
    do {
        try await body()
        return nil
    } catch let failure as Chaos.Failure {
        return failure
    }
}
