import AMQPPool
import NIOCore
import RPCWire
import Synchronization

/// ``DeliveryHistory`` behind a lock, for all incarnations of a receiver: what the broker refuses it refuses again.
final class DeliveryMemory: Sendable {
    typealias Key = DeliveryHistory<ObjectIdentifier>.Key

    private let history: Mutex<DeliveryHistory<ObjectIdentifier>>

    init(capacity: Int) {
        history = Mutex(DeliveryHistory(capacity: capacity))
    }

    /// An answer is about to be sent. Returns whether it has to be sent alone.
    func answering(_ key: Key, _ reply: ReplyMessage, on channel: ObjectIdentifier) -> Bool {
        let now = CompactInstant.now
        return history.withLock { $0.answering(key, reply, on: channel, at: now) }
    }

    /// What to do with a request that is delivered again.
    func arrival(of key: Key) -> DeliveryHistory<ObjectIdentifier>.Arrival {
        history.withLock { $0.arrival(of: key) }
    }

    /// A channel is over.
    func closed(_ channel: ObjectIdentifier, _ error: AMQPError) {
        history.withLock { $0.closed(channel, ChannelEnd(error), at: .now) }
    }

    /// A request was not answered on its channel, and its caller waits until then.
    func left(_ key: Key, deadline: CompactInstant) {
        history.withLock { $0.left(key, deadline: deadline) }
    }

    /// A handler failed, and its request goes back to its queue. Returns how often that has happened.
    func requeued(_ key: Key) -> Int {
        history.withLock { $0.requeued(key) }
    }

    /// How often a handler failed with a request that was delivered again, and when its caller gives up, as far as is known.
    func record(of key: Key) -> (requeues: Int, deadline: CompactInstant?) {
        history.withLock { $0.record(of: key) }
    }

    /// What became of an answer that was sent alone: why its request is given up, or that it is not.
    func ended(_ key: Key, _ reply: ReplyMessage, _ outcome: IsolatedOutcome) -> Ending {
        history.withLock { history in
            switch outcome {
            case .delivered:
                history.delivered(key)
                return .answered
            case .refused(let text):
                history.refused(key, text, at: .now)
                return .givenUp(text)
            case .unknown(let text):
                return history.failed(key, reply, text) ? .givenUp(text) : .triedAgain
            }
        }
    }

    /// What becomes of a request whose answer was sent alone.
    enum Ending: Sendable {
        case answered
        case triedAgain
        case givenUp(String)
    }
}

extension DeliveryHistory.Key {
    /// What a request is recognised by.
    init(_ request: any IncomingRequest) {
        let message = try? request.message.get()
        var hasher = Hasher()
        if let body = message?.body {
            body.readableBytesView.prefix(Self.hashedBytes).withUnsafeBytes { hasher.combine(bytes: $0) }
        }
        self.init(
            messageID: message?.messageID,
            correlationID: request.correlationID,
            replyTo: request.replyTo,
            procedure: message?.procedure,
            bodySize: message?.body.readableBytes ?? 0,
            bodyHash: hasher.finalize()
        )
    }

    /// How much of a body is looked at.
    private static var hashedBytes: Int { 1024 }
}
