import ArgumentParser
import RPCCaller

/// The exit codes for scripts, and the hints for people.
enum ToolExit {
    static let timeout = ExitCode(2)
    static let unroutable = ExitCode(3)
    static let remote = ExitCode(4)
    static let connection = ExitCode(5)
    /// After a second signal.
    static let interrupted: Int32 = 130

    static let help = """
        Exit codes: 0 success, 1 any other failure, 2 no reply before the timeout, 3 unroutable (no such service), 4 the \
        service answered with an error, 5 no connection, or it was lost, 64 wrong usage.
        """

    static func code(for error: RPCError) -> ExitCode {
        switch error {
        case .timeout: timeout
        case .unroutable, .noReceiver: unroutable
        case .remote: remote
        case .connectionLost, .notConnected, .blocked, .replyQueueLost, .callerRestarted: connection
        case .accessRefused, .cancelled, .overloaded, .rejectedByBroker, .undecodableReply, .unexpectedContentType:
            .failure
        case .invalidRequest: .validationFailure
        }
    }

    /// What can be done about the error, if known.
    ///
    /// - Parameter isQueue: Whether a queue was called instead of a service.
    static func hint(for error: RPCError, isQueue: Bool) -> String? {
        switch error {
        case .notConnected:
            "--url or AMQP_URL names another broker, with its user, password and virtual host; rpc demo brings its own."
        case .unroutable(let destination):
            isQueue
                ? "There is no queue of that name: rpc serve \(destination) --queue would make one, and answer."
                : "It has never been served: rpc serve \(destination) would. A queue is called with --queue."
        case .accessRefused: "The broker's administrator grants permissions: rabbitmqctl set_permissions"
        case .timeout(requestMayHaveBeenDelivered: true):
            "It may still be running, or waiting for a receiver. --timeout waits longer."
        case .timeout(requestMayHaveBeenDelivered: false): "--timeout waits longer."
        case .blocked: "Its administrator has to free memory or disk space: rabbitmq-diagnostics alarms"
        case .undecodableReply, .unexpectedContentType: "--text and --raw take other results than JSON."
        case .remote(let failure) where failure.code == .unsupportedContentType:
            "--text and --raw send other arguments than JSON, and --json sends that."
        case .remote, .noReceiver, .cancelled, .connectionLost, .replyQueueLost, .callerRestarted, .overloaded,
            .rejectedByBroker, .invalidRequest:
            nil
        }
    }
}
