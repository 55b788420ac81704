public import RPCCaller
public import RPCReceiver

/// How the calls of a task are made, and what the method that it runs was called with.
///
///     let receipt = try await RemoteCall.with(timeout: .seconds(2), retry: .idempotent) {
///         try await teller.transfer(transfer, note: nil)
///     }
public struct RemoteCall: Sendable {
    /// How long to wait for each call; `nil` is the caller's own timeout.
    public var timeout: Duration?
    /// Whether calls are sent again when nobody knows what became of them.
    public var retry = RPCRetry.never
    /// Of the request that this task answers: its deadline, whether it may have been delivered before, its headers.
    public var context: RPCContext?

    /// Of this task.
    @TaskLocal
    public static var current = RemoteCall()

    /// Where the name of a method goes, instead of the method being called.
    @TaskLocal
    static var recorder: MethodRecorder?

    /// Makes the calls in the body with these settings.
    ///
    /// - Parameters:
    ///   - timeout: How long to wait for each; `nil` leaves it as it is.
    ///   - retry: Whether they are sent again when nobody knows what became of them.
    ///   - isolation: Where the body runs: where this is called.
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
