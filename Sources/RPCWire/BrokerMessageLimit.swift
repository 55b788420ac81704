package import AMQPPool
import Synchronization

/// The largest message that the broker accepts, as far as known.
///
/// The broker does not announce its limit. It closes the channel of a larger message, and other messages on that channel are redelivered or
/// in doubt. The first refusal is therefore remembered: larger messages are refused here from then on, and a reply is not sent a second
/// time with the same bytes.
package final class BrokerMessageLimit: Sendable {
    private let limit = Atomic(Int.max)

    package init() {}

    /// In bytes; `Int.max` until something was refused.
    package var bytes: Int { limit.load(ordering: .relaxed) }

    /// Learns from the error that closed a channel. Returns the limit, if the error was about it.
    @discardableResult
    package func learn(from error: AMQPError) -> Int? {
        let bytes: Int? =
            switch error.refusal {
            case .operation(406, let text), .message(406, let text): PublishRefusal.messageLimit(in: text)
            case .operation, .topology, .message, nil: nil
            }
        guard let bytes else { return nil }
        limit.min(bytes, ordering: .relaxed)
        return bytes
    }
}
