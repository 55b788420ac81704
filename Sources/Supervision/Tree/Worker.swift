/// An actor that lives as long as its `run()`.
///
/// Returning from `run()` is ``ExitReason/normal``, throwing is ``ExitReason/crashed(_:)``. An actor that is not a worker can also be a
/// child: it needs no task, and ends only through its ``Pid``, a link or its supervisor; an error thrown by one of its methods goes to the
/// caller of that method.
///
/// A worker that should be asked before it is cancelled takes its ``ChildContext/stopRequest``.
public protocol Worker: Actor {
    /// Does the worker's work. It is called once for each instance; a restart creates a new instance.
    func run() async throws

    /// Called after `run()` has ended, including a crash but not a kill, in a task that is not cancelled, and always before the next
    /// incarnation starts. It has as long as the child's shutdown allows. The default does nothing.
    func terminate(reason: ExitReason) async
}

extension Worker {
    /// Does nothing.
    public func terminate(reason: ExitReason) async {}
}
