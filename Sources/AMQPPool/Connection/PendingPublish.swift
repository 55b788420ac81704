internal import ConcurrencyPrimitives
import NIOCore

/// A message whose publisher waits for its outcome.
struct PendingPublish {
    // Not a `OneShot`: all who resume it are on the event loop, so that no lock is needed on the path of each message.
    var continuation: CheckedContinuation<Result<Void, AMQPError>, Never>
    var deadline: Scheduled<Void>
    var exchange: String
    var routingKey: String
    var isWritten = false
    /// When it was written, if that is measured.
    var written: ContinuousClock.Instant?
}

extension AMQPError {
    static var outboxIsFull: AMQPError { .overloaded("messages waiting to be written on one channel") }
}

extension PublishOutcome {
    /// The result for its publisher.
    ///
    /// - Parameter closedError: Why the channel is closed, if it is.
    func result(
        exchange: String,
        routingKey: String,
        closedError: @autoclosure () -> AMQPError
    ) -> Result<Void, AMQPError> {
        switch self {
        case .confirmed: .success(())
        case .nacked: .failure(.nacked)
        case .returned(let code, let text):
            .failure(.returned(code: code, text: text, exchange: exchange, routingKey: routingKey))
        case .refused(.refused(let code, let text, let exchange, let routingKey)):
            .failure(.refused(code: code, text: text, exchange: exchange, routingKey: routingKey))
        case .notWritten(let error), .refused(let error): .failure(.notSent(error))
        case .unknown(let error): .failure(.unconfirmed(error))
        case .sent: .failure(.unconfirmed(.confirmsNotSelected))
        // Routed, but perhaps not on disk yet: a weaker guarantee than a confirm.
        case .presumedDelivered: .failure(.unconfirmed(closedError()))
        }
    }
}
