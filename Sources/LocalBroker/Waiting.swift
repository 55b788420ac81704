import NIOCore

extension EventLoopFuture where Value: Sendable {
    /// Waits for the value at most `duration`, and if it is `cancellable`, until the task is cancelled.
    ///
    /// The future itself continues. Its errors are rethrown if they are ``LocalBrokerError``s, which all in this module are.
    func value(
        within duration: Duration,
        orThrow timeout: LocalBrokerError,
        cancellable: Bool = true
    ) async throws(LocalBrokerError) -> Value {
        let promise = eventLoop.makePromise(of: Value.self)
        // The first to complete the promise wins; the others are ignored.
        cascade(to: promise)
        let deadline = eventLoop.scheduleTask(in: .init(duration)) { promise.fail(timeout) }
        defer { deadline.cancel() }
        do {
            return try await withTaskCancellationHandler {
                try await promise.futureResult.get()
            } onCancel: {
                if cancellable { promise.fail(LocalBrokerError.cancelled) }
            }
        } catch let error as LocalBrokerError {
            throw error
        } catch {
            throw .requestFailed(command: "wait", reason: "\(error)")
        }
    }
}
