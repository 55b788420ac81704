package import AMQPPool
import Synchronization

/// The largest message that the broker takes, as far as it has told.
///
/// The broker announces its limit nowhere. It closes the channel on which a larger message comes, and whatever was on its way there
/// is redelivered or in doubt. So the first refusal is remembered: what is larger is refused here from then on, and a reply is
/// not tried a second time with the same bytes.
package final class BrokerMessageLimit: Sendable {
    private let limit = Atomic(Int.max)

    package init() {}

    /// In bytes; `Int.max` as long as nothing was refused.
    package var bytes: Int { limit.load(ordering: .relaxed) }

    /// Learns from what closed a channel. Returns the limit, if that is what it was about.
    @discardableResult
    package func learn(from error: AMQPError) -> Int? {
        let bytes: Int? =
            switch error.cause {
            case .channelClosedByBroker(406, let text), .refused(406, let text, _, _):
                PublishRefusal.messageLimit(in: text)
            default: nil
            }
        guard let bytes else { return nil }
        limit.min(bytes, ordering: .relaxed)
        return bytes
    }
}
