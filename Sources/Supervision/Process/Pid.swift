import ConcurrencyPrimitives

/// The identity of one incarnation of a child or supervisor.
///
/// A restarted child has a new pid; the old pid never becomes alive again. Holding a pid keeps neither the process running nor its actor in
/// memory.
public struct Pid: Sendable {
    let process: Process

    /// Whether the process can be called. False from the moment it is killed or has ended, even while its old task is still running. A
    /// supervisor is alive until its children have ended.
    public var isAlive: Bool { process.isAlive }

    /// Why the process ended (or is ending), `nil` while it is alive.
    public var exitReason: ExitReason? { process.exitReason }

    /// Asks the process to end with this reason (OTP's `exit/2`). Returns immediately; ``exited()`` waits for the end.
    ///
    /// - A supervisor stops its children in reverse order and then ends with `reason`.
    /// - A worker that took its ``ChildContext/stopRequest`` is asked to stop, and ends when its `run()` does.
    /// - Any other worker is cancelled, like an Erlang process that does not trap exits.
    /// - An actor without `run()` ends immediately, or once its running timer actions have been cancelled and have ended.
    ///
    /// ``ExitReason/normal`` is ignored, as OTP ignores it from another process. The supervisor treats the exit like any other that it did
    /// not ask for.
    public func exit(_ reason: ExitReason) {
        if case .normal = reason { return }
        process.send(.exit(reason))
    }

    /// Kills the process, whatever it is doing; others see ``ExitReason/killed``.
    ///
    /// The process is fenced off immediately. Its task is cancelled and its kill hook runs, for at most the child's kill timeout; then the
    /// exit is announced and the supervisor acts on it. Swift cannot preempt a task: a task that ignores cancellation is abandoned and
    /// reported as abandoned.
    public func kill() {
        process.send(.kill)
    }

    /// Waits until the process has ended (OTP's monitor); returns immediately if it already has.
    ///
    /// - Returns: Why it ended; `nil` if the waiting task is cancelled first.
    public func exited() async -> ExitReason? {
        let end = OneShot<ExitReason>()
        let token = process.watch { end.set($0) }
        let reason = await end.wait()
        if reason == nil { process.unwatch(token) }
        return reason
    }

    /// Crashes the process with this error; the process cannot decline. For tests that simulate a crash.
    func crash(_ error: any Error) {
        process.send(.crash(error))
    }

    /// Runs `cleanup` when the process has ended, before the exit is announced; immediately if it has already ended.
    @discardableResult
    package func onExit(_ cleanup: @escaping @Sendable (ExitReason) -> Void) -> ExitHandler {
        ExitHandler(process: process, token: process.addCleanup(cleanup))
    }
}

/// A registered cleanup that can be withdrawn.
package struct ExitHandler: Sendable {
    let process: Process
    let token: UInt64

    /// Withdraws the cleanup, unless it has already run.
    package func cancel() {
        process.removeCleanup(token)
    }
}

extension Pid: Hashable {
    /// Pids are equal when they name the same incarnation.
    public static func == (left: Pid, right: Pid) -> Bool { left.process === right.process }

    /// Hashes the identity.
    public func hash(into hasher: inout Hasher) { hasher.combine(process.number) }
}

extension Pid: CustomStringConvertible {
    /// `<0.42>`: unique within this OS process.
    public var description: String { "<0.\(process.number)>" }
}
