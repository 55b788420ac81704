import Synchronization

@testable import Logging
@testable import Supervision

/// Lets nobody through before it is opened, and tells when somebody waits.
final class Gate: Sendable {
    private struct State {
        var isOpen = false
        var hasEntered = false
        var inside: [CheckedContinuation<Void, Never>] = []
        var watchers: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Mutex(State())

    /// Waits for the opening, whatever happens to the waiting task.
    func pass() async {
        await withCheckedContinuation { continuation in
            let (isOpen, watchers) = state.withLock { state in
                state.hasEntered = true
                if !state.isOpen { state.inside.append(continuation) }
                defer { state.watchers = [] }
                return (state.isOpen, state.watchers)
            }
            for watcher in watchers { watcher.resume() }
            if isOpen { continuation.resume() }
        }
    }

    /// Returns when somebody has come to the gate.
    func entered() async {
        await withCheckedContinuation { continuation in
            let isDue = state.withLock { state in
                if !state.hasEntered { state.watchers.append(continuation) }
                return state.hasEntered
            }
            if isDue { continuation.resume() }
        }
    }

    func open() {
        let inside = state.withLock { state in
            state.isOpen = true
            defer { state.inside = [] }
            return state.inside
        }
        for continuation in inside { continuation.resume() }
    }
}

/// A worker that ignores its cancellation until a gate opens (the suite's `naughty_child` and `supervisor_deadlock`).
actor Busy: Worker {
    private let gate: Gate

    init(_ gate: Gate) { self.gate = gate }

    func run() async throws {
        await gate.pass()
    }
}

extension Logger {
    static let quiet = Logger(label: "conformance") { _ in SwiftLogNoOpLogHandler() }
}
