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
        guard case .channelClosedByBroker(406, let text) = error.cause, let bytes = Self.limit(in: text) else {
            return nil
        }
        limit.min(bytes, ordering: .relaxed)
        return bytes
    }

    /// Reads "message size 2000 is larger than configured max size 1000"; the wording differs between versions of RabbitMQ.
    static func limit(in text: String) -> Int? {
        guard let start = text.firstRange(of: "message size ") else { return nil }
        let numbers = text[start.upperBound...].split { !$0.isASCII || !$0.isNumber }.compactMap { Int($0) }
        guard numbers.count >= 2, numbers[0] > numbers[1], numbers[1] > 0 else { return nil }
        return numbers[1]
    }
}
