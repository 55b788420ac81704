import ConcurrencyPrimitives

/// The identity of one incarnation of a child or supervisor.
///
/// A restarted child has a new pid; this one stays dead for ever. Holding a pid keeps neither the process running nor its
/// actor in memory.
public struct Pid: Sendable {
    let process: Process

    /// Whether it can be called. False from the moment it is killed or has ended, also while an old task of it still runs. A
    /// supervisor is alive until its children have ended.
    public var isAlive: Bool { process.isAlive }

    /// Why it ended (or is ending), `nil` while it is alive.
    public var exitReason: ExitReason? { process.exitReason }

    /// Asks the process to end with this reason (OTP's `exit/2`). Returns at once; ``exited()`` tells when it is done.
    ///
    /// - A supervisor stops its children in reverse order and then ends with `reason`.
    /// - A worker that took its ``ChildContext/stopRequest`` is asked to stop; it ends when its `run()` does.
    /// - A worker that did not is cancelled, as an Erlang process that does not trap exits.
    /// - An actor without `run()` ends at once, or when the actions of its timers that run have been cancelled and ended.
    ///
    /// ``ExitReason/normal`` is ignored, as OTP ignores it from another process. The supervisor treats the end as any other
    /// that it did not ask for.
    public func exit(_ reason: ExitReason) {
        if case .normal = reason { return }
        process.send(.exit(reason))
    }

    /// Ends the process whatever it is doing; others see ``ExitReason/killed``.
    ///
    /// It is fenced off at once. Its task is cancelled and its kill hook runs, both for at most the child's kill timeout;
    /// then the exit is announced and its supervisor acts. Swift cannot preempt a task: one that ignores cancellation is
    /// abandoned and reported as such.
    public func kill() {
        process.send(.kill)
    }

    /// Waits until the process has ended (OTP's monitor): at once if it has.
    ///
    /// - Returns: Why it ended; `nil` when the waiting task is cancelled before, while the process has not ended.
    public func exited() async -> ExitReason? {
        let end = OneShot<ExitReason>()
        let token = process.watch { end.set($0) }
        let reason = await end.wait()
        if reason == nil { process.unwatch(token) }
        return reason
    }

    /// Fails the process with this error, in a way it cannot decline. For tests that play "kill the process".
    package func crash(_ error: any Error) {
        process.send(.crash(error))
    }

    /// Runs `cleanup` when the process has ended, before its end is announced to anybody; at once if it has ended.
    @discardableResult
    package func onExit(_ cleanup: @escaping @Sendable (ExitReason) -> Void) -> ExitHandler {
        ExitHandler(process: process, token: process.addCleanup(cleanup))
    }
}

/// A cleanup that can be withdrawn.
package struct ExitHandler: Sendable {
    let process: Process
    let token: UInt64

    /// Withdraws the cleanup, unless it has run.
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
