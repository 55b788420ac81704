import AMQPPool
import Synchronization

/// Whether the broker lets this receiver answer, as far as it has told.
///
/// Replies go to the default exchange. A user who may not write there can answer nobody, and the broker says so (403) by closing
/// the channel that a reply came on: the acknowledgement behind it is void, and the broker delivers the request again. Run again, it
/// would be answered again, and so on for ever. So the refusal is remembered for a while, in which calls are rejected instead of
/// run; after it the next call tries whether the right was granted.
final class ReplyPermission: Sendable {
    /// How long a refusal is taken for the state of things.
    static let memory: Duration = .seconds(30)

    private let wasRefused = Atomic(false)
    private let refusal = Mutex<Refusal?>(nil)

    private struct Refusal {
        let text: String
        let end: ContinuousClock.Instant
    }

    /// Learns from what closed a channel while a reply was on its way. Returns the broker's words, if it was the reply.
    @discardableResult
    func learn(from error: AMQPError, at now: ContinuousClock.Instant = .now) -> String? {
        // The name that the broker gives the default exchange. Another 403, to a queue for instance, is none of its business.
        guard case .channelClosedByBroker(403, let text) = error.cause, text.contains("exchange 'amq.default'") else {
            return nil
        }
        refusal.withLock { $0 = Refusal(text: text, end: now + Self.memory) }
        wasRefused.store(true, ordering: .releasing)
        return text
    }

    /// What the broker said when it refused replies; `nil` when one may be tried.
    func refusal(at now: @autoclosure () -> ContinuousClock.Instant) -> String? {
        guard wasRefused.load(ordering: .acquiring) else { return nil }
        let now = now()
        return refusal.withLock { refusal in refusal.flatMap { now < $0.end ? $0.text : nil } }
    }
}
