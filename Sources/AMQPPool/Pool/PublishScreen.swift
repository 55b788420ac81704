internal import ConcurrencyPrimitives
import NIOCore
import Supervision
import Synchronization

extension OutgoingMessage {
    func publish(on channel: AMQPChannel, before deadline: ContinuousClock.Instant) async throws(AMQPError) {
        try await channel.publishUnmeasured(self, timeout: ContinuousClock.now.duration(to: deadline))
    }
}

/// ``RefusedPublishes`` behind a lock.
final class PublishScreen: Sendable {
    private let state = Mutex(RefusedPublishes())

    func admit(_ message: OutgoingMessage) -> RefusedPublishes.Admission {
        state.withLock { state in
            if message.exchange.isEmpty, state.isEmpty { return .shared }
            return state.admit(
                exchange: message.exchange,
                routingKey: message.routingKey,
                userID: message.properties.userID,
                size: message.body.readableBytes,
                at: .now
            )
        }
    }

    /// Publishes a message on a shared channel, and records its refusal.
    func noting(
        _ message: OutgoingMessage,
        _ publish: () async throws(AMQPError) -> Void
    ) async throws(AMQPError) {
        do throws(AMQPError) {
            try await publish()
        } catch {
            failed(message, error)
            throw error
        }
    }

    /// Records that a message on a shared channel was refused, if it was.
    func failed(_ message: OutgoingMessage, _ error: AMQPError) {
        guard let ground = error.refusalGround(of: message), ground.matches(message) else { return }
        state.withLock { $0.refused(ground, error.cause, at: .now) }
    }

    /// Whether the message may be published on a shared channel without a separate trial.
    func shares(_ message: OutgoingMessage) -> Bool {
        state.withLock { state in
            state.shares(
                exchange: message.exchange,
                routingKey: message.routingKey,
                userID: message.properties.userID,
                size: message.body.readableBytes
            )
        }
    }

    func tried(_ ground: PublishRefusal.Ground, _ trial: RefusedPublishes.Trial) {
        state.withLock { $0.tried(ground, trial, at: .now) }
    }
}

extension RefusedPublishes.Trial {
    /// What the outcome of a message implies for similar messages.
    init(_ error: AMQPError) {
        switch error {
        case .refused: self = .refused(error)
        // The exchange exists, and accepts messages.
        case .returned, .nacked: self = .accepted
        case .connectFailed, .invalidEndpoint, .tlsFailed, .handshakeFailed, .authenticationFailed, .tooFewChannels,
            .virtualHostRefused, .notConnected, .setUpFailed, .poolNotRunning, .poolEnded, .connectionLost,
            .heartbeatTimeout, .connectionClosedByBroker, .connectionClosed, .channelClosedByBroker, .channelClosed,
            .channelLost, .topologyRefused, .protocolViolation, .timedOut, .cancelled, .blocked, .overloaded,
            .tooManyChannels, .invalidArgument, .unencodable, .messageTooLarge, .propertiesRefused,
            .confirmsNotSelected, .notSent, .unconfirmed:
            self = .unknown
        }
    }
}

extension PublishRefusal.Ground {
    func matches(_ message: OutgoingMessage) -> Bool {
        matches(
            exchange: message.exchange,
            routingKey: message.routingKey,
            userID: message.properties.userID,
            size: message.body.readableBytes
        )
    }
}

extension AMQPError {
    /// Why the broker closed a channel because of a message: this one, or another one on the same channel.
    func refusalGround(of message: OutgoingMessage) -> PublishRefusal.Ground? {
        switch self {
        case .refused(let code, let text, _, _):
            let ground = PublishRefusal(code: code, text: text).ground
            guard ground == .unknown else { return ground }
            return .message(
                exchange: message.exchange,
                routingKey: message.routingKey,
                userID: message.properties.userID
            )
        case .unconfirmed(.channelClosedByBroker(let code, let text)):
            return PublishRefusal(code: code, text: text).ground
        case .connectFailed, .invalidEndpoint, .tlsFailed, .handshakeFailed, .authenticationFailed, .tooFewChannels,
            .virtualHostRefused, .notConnected, .setUpFailed, .poolNotRunning, .poolEnded, .connectionLost,
            .heartbeatTimeout, .connectionClosedByBroker, .connectionClosed, .channelClosedByBroker, .channelClosed,
            .channelLost, .topologyRefused, .protocolViolation, .timedOut, .cancelled, .blocked, .overloaded,
            .tooManyChannels, .invalidArgument, .unencodable, .messageTooLarge, .propertiesRefused,
            .confirmsNotSelected, .returned, .nacked, .notSent, .unconfirmed:
            return nil
        }
    }

    /// The refusal of another message, as an error of this one.
    func of(_ message: OutgoingMessage) -> AMQPError {
        switch self {
        case .refused(let code, let text, _, _), .channelClosedByBroker(let code, let text):
            .refused(code: code, text: text, exchange: message.exchange, routingKey: message.routingKey)
        case .connectFailed, .invalidEndpoint, .tlsFailed, .handshakeFailed, .authenticationFailed, .tooFewChannels,
            .virtualHostRefused, .notConnected, .setUpFailed, .poolNotRunning, .poolEnded, .connectionLost,
            .heartbeatTimeout, .connectionClosedByBroker, .connectionClosed, .channelClosed, .channelLost,
            .topologyRefused, .protocolViolation, .timedOut, .cancelled, .blocked, .overloaded, .tooManyChannels,
            .invalidArgument, .unencodable, .messageTooLarge, .propertiesRefused, .confirmsNotSelected, .returned,
            .nacked, .notSent, .unconfirmed:
            self
        }
    }
}
