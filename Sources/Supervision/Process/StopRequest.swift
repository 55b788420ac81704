import ConcurrencyPrimitives

/// A supervisor's wish that a worker ends, for the worker to observe: what an exit signal is to an Erlang process that traps
/// exits.
///
/// Taking it from ``ChildContext/stopRequest`` is what makes a worker one that is asked before it is cancelled:
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

    /// Whether the worker has been asked to end.
    public var isRequested: Bool { latch.isOpen }

    /// Returns when the worker has been asked to end, or the waiting task is cancelled.
    public func wait() async {
        await latch.wait()
    }

    /// Calls `handler` once when the worker is asked to end; at once if it has been. The handler must not block.
    public func onRequest(_ handler: @escaping @Sendable () -> Void) {
        latch.whenOpen(handler)
    }
}
