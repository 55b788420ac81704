/// An actor whose `run()` is its life.
///
/// Returning from `run()` is ``ExitReason/normal``, throwing is ``ExitReason/crashed(_:)``. An actor that is not a worker
/// may be a child too: it costs no task, and ends only through its ``Pid``, a link or its supervisor; an error thrown by one
/// of its methods goes to the caller of that method.
///
/// A worker that wants to be asked before it is cancelled takes its ``ChildContext/stopRequest``.
public protocol Worker: Actor {
    /// The worker's life. It is called once for each instance; a restart makes a new instance.
    func run() async throws

    /// Called after `run()` has ended, crash included and kill excluded, in a task that is not cancelled, and always before
    /// the next incarnation starts. It has as long as the child's shutdown allows. The default does nothing.
    func terminate(reason: ExitReason) async
}

extension Worker {
    /// Does nothing.
    public func terminate(reason: ExitReason) async {}
}
