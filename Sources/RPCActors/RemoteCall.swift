public import RPCCaller
public import RPCReceiver

/// The settings of a task's calls, and the context of the method that it runs.
///
///     let receipt = try await RemoteCall.with(timeout: .seconds(2), retry: .idempotent) {
///         try await teller.transfer(transfer, note: nil)
///     }
public struct RemoteCall: Sendable {
    /// The timeout of each call; `nil` for the caller's own timeout.
    public var timeout: Duration?
    /// Whether calls are sent again when their outcome is unknown.
    public var retry = RPCRetry.never
    /// The context of the request that this task answers: its deadline, whether it may have been delivered before, its headers.
    public var context: RPCContext?

    /// The settings of the current task.
    @TaskLocal
    public static var current = RemoteCall()

    /// Records the name of a method instead of calling it.
    @TaskLocal
    static var recorder: MethodRecorder?

    /// Makes the calls in the body with these settings.
    ///
    /// - Parameters:
    ///   - timeout: The timeout of each call; `nil` leaves it unchanged.
    ///   - retry: Whether they are sent again when their outcome is unknown.
    ///   - isolation: The isolation of the body: the caller's.
    ///   - body: Makes calls.
    public static func with<Result, Failure: Error>(
        timeout: Duration? = nil,
        retry: RPCRetry = .never,
        isolation: isolated (any Actor)? = #isolation,
        _ body: () async throws(Failure) -> Result
    ) async throws(Failure) -> Result {
        var call = current
        if let timeout { call.timeout = timeout }
        call.retry = retry
        let outcome = await $current.withValue(call) {
            do throws(Failure) {
                return Swift.Result<Result, Failure>.success(try await body())
            } catch {
                return .failure(error)
            }
        }
        return try outcome.get()
    }
}
