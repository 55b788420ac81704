import AMQPPool

extension RPCError {
    /// The error of a call that arrives while the caller is draining.
    static var stopping: RPCError { .notConnected(why: "the caller is stopping") }

    /// The error of a call for which no channel was ready before its deadline.
    ///
    /// Contains only the cause: ``notConnected(why:)`` and ``blocked(why:)`` already mean that the call was not sent. `setUpFailure` is why
    /// a connected channel could not be set up.
    init(notReady error: AMQPError, setUpFailure: String? = nil) {
        switch error.cause {
        case .blocked(let reason):
            self = .blocked(why: reason)
        case .notConnected(let failures) where failures.isEmpty:
            self = .notConnected(why: setUpFailure ?? "the first attempt to connect has not ended")
        case .notConnected(let failures):
            self = .notConnected(why: failures.map { "\($0.error)" }.joined(separator: "; "))
        case let cause:
            self = .notConnected(why: "\(cause)")
        }
    }
}
