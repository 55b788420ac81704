import ConcurrencyPrimitives
import Synchronization

/// A signal sent to a process.
enum Signal: Sendable {
    /// OTP's `exit(Pid, Reason)`.
    case exit(ExitReason)
    /// OTP's `exit(Pid, kill)`.
    case kill
    /// Crash with this error, without the option to decline. Used by chaos tests.
    case crash(any Error)
    /// A linked process has ended.
    case linked(ExitReason)
    /// Exit as if `run()` had returned.
    case finish
}

/// Handles the signals sent to a process: a child or a supervisor.
protocol SignalTarget: AnyObject, Sendable {
    func receive(_ signal: Signal)
}

/// One incarnation of a child or supervisor: its identity, its liveness, and the observers of its exit.
///
/// It ends once. What depends on it (registered names) is released before any observer learns of the exit.
final class Process: Sendable {
    enum Phase: Sendable {
        case alive
        /// It receives no more calls; its task, hook or children have not ended yet.
        case ending(ExitReason)
        case ended(ExitReason)
    }

    typealias Handler = @Sendable (ExitReason) -> Void

    /// The handlers of the exit. Most processes have none.
    fileprivate struct Observers: Sendable {
        var cleanups: [UInt64: Handler] = [:]
        var watchers: [UInt64: Handler] = [:]
        /// By number. Links are symmetric.
        var links: [UInt64: Process] = [:]
        var lastToken: UInt64 = 0
    }

    fileprivate struct State {
        var phase = Phase.alive
        /// Whether the process has ended and its cleanups have run, so that the exit may be announced.
        var isReleased = false
        var observers = BoxedOptional<Observers>()
        var target: (any SignalTarget)?
    }

    private static let numbers = Atomic<UInt64>(0)

    /// The position of the process under its supervisor.
    struct Place: Sendable {
        var owner: UInt64 = 0
        var slot = 0
        var generation: UInt64 = 0
    }

    let number: UInt64
    let place: Place
    fileprivate let state = Mutex(State())
    /// A copy of the phase for frequent readers, so that they do not contend for the lock.
    private let isLiving = Atomic(true)

    init(place: Place = Place()) {
        self.place = place
        number = Process.numbers.add(1, ordering: .relaxed).newValue
    }

    var phase: Phase { state.withLock { $0.phase } }

    var isAlive: Bool { isLiving.load(ordering: .acquiring) }

    /// Why it ended or is ending, `nil` while it is alive.
    var exitReason: ExitReason? {
        switch phase {
        case .alive: nil
        case .ending(let reason), .ended(let reason): reason
        }
    }

    /// Sets the handler of signals. Called once, in the target's initializer, so that a target exists before anybody else knows the process
    /// and no signal is lost. The target is retained until the process has ended.
    func attach(_ target: any SignalTarget) {
        state.withLock { $0.target = target }
    }

    func send(_ signal: Signal) {
        let target = state.withLock { $0.target }
        target?.receive(signal)
    }

    /// The handler of its signals, until it has ended.
    var target: (any SignalTarget)? { state.withLock { $0.target } }

    func markEnding(_ reason: ExitReason) {
        state.withLock { state in
            if case .ended = state.phase { return }
            state.phase = .ending(reason)
            isLiving.store(false, ordering: .releasing)
        }
    }

    /// Ends the process. Only the first call has an effect.
    func finish(_ reason: ExitReason) {
        let cleanups: [UInt64: Handler]? = state.withLock { state in
            if case .ended = state.phase { return nil }
            state.phase = .ended(reason)
            isLiving.store(false, ordering: .releasing)
            state.target = nil
            guard let cleanups = state.observers.value?.cleanups else {
                // There are no cleanups, and the lock is held: nobody can add one before the next step.
                state.isReleased = true
                return nil
            }
            state.observers.update { $0.cleanups = [:] }
            return cleanups
        }
        guard let cleanups else { return }
        for token in cleanups.keys.sorted() { cleanups[token]?(reason) }
        let observers = state.withLock { state in
            state.isReleased = true
            defer { state.observers.value = nil }
            return state.observers.value ?? Observers()
        }
        for token in observers.watchers.keys.sorted() { observers.watchers[token]?(reason) }
        for number in observers.links.keys.sorted() {
            guard let other = observers.links[number], other.removeLink(self) else { continue }
            other.sendLinked(reason)
        }
    }

    /// Waits until the process has ended, even in a cancelled task: for callers that have asked it to end.
    func ended() async -> ExitReason {
        await withCheckedContinuation { continuation in
            watch { continuation.resume(returning: $0) }
        }
    }

    /// Calls `handler` once, after the process has ended and its names are free; immediately if that has already happened.
    @discardableResult
    func watch(_ handler: @escaping Handler) -> UInt64 {
        let (token, reason) = state.withLock { state -> (UInt64, ExitReason?) in
            if case .ended(let reason) = state.phase, state.isReleased { return (0, reason) }
            return state.observers.update(orMake: Observers()) { observers in
                observers.lastToken += 1
                observers.watchers[observers.lastToken] = handler
                return (observers.lastToken, nil)
            }
        }
        if let reason { handler(reason) }
        return token
    }

    func unwatch(_ token: UInt64) {
        state.withLock { $0.observers.update { _ = $0.watchers.removeValue(forKey: token) } }
    }

    /// Calls `cleanup` once, before the exit is announced; immediately if the process has ended.
    func addCleanup(_ cleanup: @escaping Handler) -> UInt64 {
        let (token, reason) = state.withLock { state -> (UInt64, ExitReason?) in
            if case .ended(let reason) = state.phase { return (0, reason) }
            return state.observers.update(orMake: Observers()) { observers in
                observers.lastToken += 1
                observers.cleanups[observers.lastToken] = cleanup
                return (observers.lastToken, nil)
            }
        }
        if let reason { cleanup(reason) }
        return token
    }

    func removeCleanup(_ token: UInt64) {
        state.withLock { $0.observers.update { _ = $0.cleanups.removeValue(forKey: token) } }
    }
}

// MARK: - Links

extension Process {
    /// The linked processes, at most `limit`, and the number of watchers.
    func relations(limit: Int) -> (links: [Pid], watchers: Int) {
        state.withLock { state in
            state.observers.read { observers in
                (observers.links.values.prefix(limit).map { Pid(process: $0) }, observers.watchers.count)
            } ?? ([], 0)
        }
    }

    /// Adds a link to the other process; returns the exit reason instead when this process has ended.
    func addLink(_ other: Process) -> ExitReason? {
        state.withLock { state in
            if case .ended(let reason) = state.phase, state.isReleased { return reason }
            state.observers.update(orMake: Observers()) { $0.links[other.number] = other }
            return nil
        }
    }

    @discardableResult
    func removeLink(_ other: Process) -> Bool {
        state.withLock { $0.observers.update { $0.links.removeValue(forKey: other.number) != nil } ?? false }
    }

    /// Sent through the trampoline, so that a long chain of linked processes is handled in a loop instead of by recursion.
    func sendLinked(_ reason: ExitReason) {
        if case .normal = reason { return }
        Trampoline.run(LinkedExit(process: self, reason: reason))
    }

    private final class LinkedExit: Drainable {
        let process: Process
        let reason: ExitReason

        init(process: Process, reason: ExitReason) {
            self.process = process
            self.reason = reason
        }

        func drain() {
            process.send(.linked(reason))
        }
    }
}
