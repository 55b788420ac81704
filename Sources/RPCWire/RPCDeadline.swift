/// The deadline that a task inherits from the request it handles.
///
/// A receiver runs each handler under the deadline of its request. Calls made by the handler, in the same task or its child tasks, inherit
/// the remaining time: a call may shorten it with its own timeout, but not extend it. No service therefore works for a caller that has
/// given up, however deep the calls are nested.
///
///     user ──5 s──▶ checkout ──4.9 s──▶ stock ──4.8 s──▶ checkout
///
/// A detached task (`Task.detached`) inherits nothing, nor does work that is passed to another task in other ways.
public enum RPCDeadline {
    @TaskLocal
    package static var inherited: CompactInstant?

    /// When the caller of the current request gives up; `nil` if no request is being handled.
    public static var current: ContinuousClock.Instant? { inherited?.instant }

    /// Runs an operation whose calls end at this deadline, or at the inherited one if that is earlier.
    public nonisolated(nonsending) static func shortened<Result, Failure: Error>(
        to deadline: ContinuousClock.Instant,
        operation: nonisolated(nonsending) () async throws(Failure) -> Result
    ) async throws(Failure) -> Result {
        let deadline = inherited.map { min($0, CompactInstant(deadline)) } ?? CompactInstant(deadline)
        // `withValue` throws any error; the operation's error type is preserved by returning its result.
        let result = await $inherited.withValue(deadline) { () async -> Swift.Result<Result, Failure> in
            do throws(Failure) {
                return .success(try await operation())
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }
}
