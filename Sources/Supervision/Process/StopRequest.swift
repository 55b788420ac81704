import ConcurrencyPrimitives

/// A supervisor's request that a worker stop, for the worker to observe: the counterpart of an exit signal to an Erlang process that traps
/// exits.
///
/// A worker that takes it from ``ChildContext/stopRequest`` is asked to stop before it is cancelled:
///
///     actor Flusher: Worker {
///         let stop: StopRequest
///         init(_ context: ChildContext) { stop = context.stopRequest }
///
///         func run() async throws {
///             await stop.wait()          // or look at stop.isRequested between two pieces of work
///             try await flush()
///         }
///     }
public struct StopRequest: Sendable {
    let latch: Latch

    /// Whether the worker has been asked to stop.
    public var isRequested: Bool { latch.isOpen }

    /// Returns when the worker has been asked to stop, or the waiting task is cancelled.
    public func wait() async {
        await latch.wait()
    }

    /// Calls `handler` once when the worker is asked to stop; immediately if it already has been. The handler must not block.
    public func onRequest(_ handler: @escaping @Sendable () -> Void) {
        latch.whenOpen(handler)
    }
}
