import AMQPPool
import Synchronization

/// Whether the broker permits this receiver to answer, as far as known.
///
/// Replies go to the default exchange. If the user may not write to it, nobody can be answered, and the broker refuses (403) by closing the
/// channel of the reply: the acknowledgement after it is void, and the broker redelivers the request, which would be run and answered
/// again, forever. The refusal is therefore remembered for a while, in which calls are rejected instead of run; after that the next call
/// tries whether the permission has been granted.
final class ReplyPermission: Sendable {
    /// How long a refusal is remembered.
    static let memory: Duration = .seconds(30)

    private let wasRefused = Atomic(false)
    private let refusal = Mutex<Refusal?>(nil)

    private struct Refusal {
        let text: String
        let end: ContinuousClock.Instant
    }

    /// Learns from the error that closed a channel while a reply was in flight. Returns the broker's text, if the reply was refused.
    @discardableResult
    func learn(from error: AMQPError, at now: ContinuousClock.Instant = .now) -> String? {
        // The broker's name for the default exchange. Another 403, for example for a queue, does not concern replies.
        guard case .channelClosedByBroker(403, let text) = error.cause, text.contains("exchange 'amq.default'") else {
            return nil
        }
        refusal.withLock { $0 = Refusal(text: text, end: now + Self.memory) }
        wasRefused.store(true, ordering: .releasing)
        return text
    }

    /// The broker's text when it refused replies; `nil` when a reply may be tried.
    func refusal(at now: @autoclosure () -> ContinuousClock.Instant) -> String? {
        guard wasRefused.load(ordering: .acquiring) else { return nil }
        let now = now()
        return refusal.withLock { refusal in refusal.flatMap { now < $0.end ? $0.text : nil } }
    }
}
