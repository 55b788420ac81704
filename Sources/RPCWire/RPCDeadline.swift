/// The deadline that work inherits from the request it answers.
///
/// A receiver runs each handler under the deadline of its request, and calls that the handler makes, in the same task or in child
/// tasks of it, inherit what is left: a call may shorten that with its own timeout, but not extend it. So no service works for a
/// caller that has given up, however deep the calls are nested.
///
///     user ──5 s──▶ checkout ──4.9 s──▶ stock ──4.8 s──▶ checkout
///
/// A task that is detached (`Task.detached`) inherits nothing, nor does work that is handed to another task some other way.
public enum RPCDeadline {
    @TaskLocal
    package static var inherited: CompactInstant?

    /// When the caller of the request that this task works for gives up; `nil` where no request is being answered.
    public static var current: ContinuousClock.Instant? { inherited?.instant }

    /// Runs an operation whose calls have to end at this deadline, or at the inherited one if that is earlier.
    public nonisolated(nonsending) static func shortened<Result, Failure: Error>(
        to deadline: ContinuousClock.Instant,
        operation: nonisolated(nonsending) () async throws(Failure) -> Result
    ) async throws(Failure) -> Result {
        let deadline = inherited.map { min($0, CompactInstant(deadline)) } ?? CompactInstant(deadline)
        // `withValue` throws anything; the operation's own type is kept by carrying its result out.
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
