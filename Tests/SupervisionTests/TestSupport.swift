import Dispatch
import Logging
import Supervision
import SupervisionTesting
import Synchronization

/// What happened, in order, and a way to wait for it.
final class Journal: Sendable {
    private struct State {
        var entries: [String] = []
        var waiters: [(count: Int, entry: String, continuation: CheckedContinuation<Void, Never>)] = []
    }

    private let state = Mutex(State())

    var entries: [String] { state.withLock { $0.entries } }

    func clear() {
        state.withLock { $0.entries = [] }
    }

    func write(_ entry: String) {
        let due = state.withLock { state in
            state.entries.append(entry)
            let entries = state.entries
            let due = state.waiters.filter { waiter in entries.count { $0 == waiter.entry } >= waiter.count }
            state.waiters.removeAll { waiter in entries.count { $0 == waiter.entry } >= waiter.count }
            return due
        }
        for waiter in due { waiter.continuation.resume() }
    }

    /// Returns when the entry has been written `count` times.
    func wait(for entry: String, count: Int = 1) async {
        await withCheckedContinuation { continuation in
            let isDue = state.withLock { state in
                if state.entries.count(where: { $0 == entry }) >= count { return true }
                state.waiters.append((count, entry, continuation))
                return false
            }
            if isDue { continuation.resume() }
        }
    }
}

struct TestFailure: Error, Equatable, CustomStringConvertible {
    var description: String
    init(_ description: String = "test failure") { self.description = description }
}

/// An actor without a `run()`.
actor Counter {
    private(set) var value = 0

    @discardableResult
    func increment() -> Int {
        value += 1
        return value
    }

    func fail() throws { throw TestFailure("from a method") }
}

/// A worker that ends when a test tells it to.
actor Puppet: Worker {
    private let journal: Journal
    private let name: String
    private var order: Result<Void, any Error>?
    private var continuation: CheckedContinuation<Void, any Error>?

    init(_ name: String, _ journal: Journal) {
        self.name = name
        self.journal = journal
    }

    func run() async throws {
        journal.write("\(name) runs")
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                if let order { continuation.resume(with: order) } else { self.continuation = continuation }
            }
        } onCancel: {
            Task { await self.end(.failure(CancellationError())) }
        }
    }

    func terminate(reason: ExitReason) {
        journal.write("\(name) terminates: \(reason)")
    }

    func end(_ order: Result<Void, any Error>) {
        self.order = order
        continuation?.resume(with: order)
        continuation = nil
    }
}

/// A worker that takes its stop request and ends when asked.
actor Polite: Worker {
    private let stop: StopRequest
    private let journal: Journal
    private let name: String

    init(_ context: ChildContext, _ journal: Journal) {
        stop = context.stopRequest
        name = context.id
        self.journal = journal
    }

    func run() async throws {
        journal.write("\(name) runs")
        await stop.wait()
        journal.write("\(name) was asked: \(!Task.isCancelled)")
    }
}

/// What is logged, by level.
final class LogRecords: Sendable {
    private struct Handler: LogHandler {
        let records: LogRecords
        var logLevel = Logger.Level.trace
        var metadata: Logger.Metadata = [:]

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            records.state.withLock { $0.append((event.level, "\(event.message)")) }
        }
    }

    private let state = Mutex<[(level: Logger.Level, message: String)]>([])

    var levels: [Logger.Level] { state.withLock { $0.map(\.level) } }
    var messages: [String] { state.withLock { $0.map(\.message) } }
    var logger: Logger { Logger(label: "recorded") { _ in Handler(records: self) } }
}

/// A clock that is turned by hand, and does something when it is looked at.
final class HookedClock: SupervisionClock {
    private let clock = ManualClock()
    private let hook = Mutex<(looks: Int, action: @Sendable () -> Void)?>(nil)

    var now: Duration {
        let action = hook.withLock { hook -> (@Sendable () -> Void)? in
            hook?.looks -= 1
            guard let (looks, action) = hook, looks == 0 else { return nil }
            hook = nil
            return action
        }
        action?()
        return clock.now
    }

    func schedule(after delay: Duration, _ action: @escaping @Sendable () -> Void) -> SupervisionTimer {
        clock.schedule(after: delay, action)
    }

    func advance(by duration: Duration) {
        clock.advance(by: duration)
    }

    /// Acts at the n-th look from now on.
    func onLook(_ number: Int, _ action: @escaping @Sendable () -> Void) {
        hook.withLock { $0 = (number, action) }
    }
}

/// An actor's executor that runs nothing while it is closed: an actor that is busy, without a thread that is blocked.
final class Gate: SerialExecutor {
    private struct State {
        var isOpen = true
        var waiting: [UnownedJob] = []
    }

    private let queue = DispatchQueue(label: "gate")
    private let state = Mutex(State())

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        let runs = state.withLock { state in
            if !state.isOpen { state.waiting.append(job) }
            return state.isOpen
        }
        if runs { run(job) }
    }

    /// How many jobs wait for it to be opened.
    var waiting: Int { state.withLock { $0.waiting.count } }

    func close() { state.withLock { $0.isOpen = false } }

    func open() {
        let jobs = state.withLock { state in
            state.isOpen = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for job in jobs { run(job) }
    }

    private func run(_ job: UnownedJob) {
        queue.async { job.runSynchronously(on: self.asUnownedSerialExecutor()) }
    }
}

/// An actor that is busy while its gate is closed.
actor Gated: StateReporting {
    private let gate: Gate
    private(set) var calls = 0

    nonisolated var unownedExecutor: UnownedSerialExecutor { gate.asUnownedSerialExecutor() }

    init(_ gate: Gate) { self.gate = gate }

    func call() -> Int {
        calls += 1
        return calls
    }

    func stateReport() -> StateReport { StateReport("open") }
}

extension ChildReference {
    /// A call with a minute in place of the default: with many tests at once an actor may wait seconds for a thread.
    func call<R: Sendable>(_ body: @escaping @Sendable (isolated A) async throws -> R) async throws -> R {
        try await call(timeout: .seconds(60), body)
    }
}
