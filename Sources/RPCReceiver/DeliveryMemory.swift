import AMQPPool
import NIOCore
import RPCWire
import Synchronization

/// ``DeliveryHistory`` behind a lock, kept over all incarnations of a receiver, because the broker's refusals stay the same.
final class DeliveryMemory: Sendable {
    typealias Key = DeliveryHistory<ObjectIdentifier>.Key

    private let history: Mutex<DeliveryHistory<ObjectIdentifier>>

    init(capacity: Int) {
        history = Mutex(DeliveryHistory(capacity: capacity))
    }

    /// Called before an answer is sent. Returns whether it has to be sent alone.
    func answering(_ key: Key, _ reply: ReplyMessage, on channel: ObjectIdentifier) -> Bool {
        let now = CompactInstant.now
        return history.withLock { $0.answering(key, reply, on: channel, at: now) }
    }

    /// Whether a request was delivered before although the broker does not say so: a classic queue of RabbitMQ 3.10 to 4.2 that lost
    /// waiting messages in a graceful restart marks none of the later ones. Only a message id identifies a request without the mark.
    func knows(_ request: any IncomingRequest) -> Bool {
        guard history.withLock({ $0.hasMarks }), let message = try? request.message.get(), message.messageID != nil
        else {
            return false
        }
        let key = Key(request)
        return history.withLock { $0.hasMark(of: key) }
    }

    /// What is known about a redelivered request.
    func history(of key: Key) -> RequestAdmission.History {
        history.withLock { history in
            let (requeues, deadline) = history.record(of: key)
            return .init(answer: history.arrival(of: key), requeues: requeues, deadline: deadline)
        }
    }

    /// A channel has ended.
    func closed(_ channel: ObjectIdentifier, _ error: AMQPError) {
        history.withLock { $0.closed(channel, ChannelEnd(error), at: .now) }
    }

    /// A request was not answered on its channel, and its caller waits until this deadline.
    func left(_ key: Key, deadline: CompactInstant) {
        history.withLock { $0.left(key, deadline: deadline) }
    }

    /// A handler failed, and its request is requeued. Returns how often that has happened.
    func requeued(_ key: Key) -> Int {
        history.withLock { $0.requeued(key) }
    }

    /// The outcome of an answer that was sent alone: whether its request is given up, and why.
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

    /// What happens to a request whose answer was sent alone.
    enum Ending: Sendable {
        case answered
        case triedAgain
        case givenUp(String)
    }
}

extension DeliveryHistory.Key {
    /// The identity of a request.
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

    /// How much of a body is hashed.
    private static var hashedBytes: Int { 1024 }
}
