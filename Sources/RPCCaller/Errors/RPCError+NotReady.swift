import AMQPPool

extension RPCError {
    /// What is said to a call that comes while the caller only lets those before it end.
    static var stopping: RPCError { .notConnected(why: "the caller is stopping") }

    /// What is said to a call for which no channel was ready before its deadline.
    ///
    /// The cause alone: that a call was not sent is what ``notConnected(why:)`` and ``blocked(why:)`` mean.
    /// `setUpFailure` is why a connected channel could not be made ready.
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
