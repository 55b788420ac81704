internal import ConcurrencyPrimitives
public import NIOCore
import Supervision
import Synchronization

extension AMQPPool {
    /// Publishes a message on any ready channel and waits until the broker has confirmed it.
    ///
    /// The broker closes the channel of a message that it refuses. To protect other messages, the first message to each exchange is
    /// published on a separate channel, which costs two round trips once, and so is each message after a refusal: one at a time, with a
    /// delay of up to a second, until the broker accepts it. Similar messages wait for that outcome, and share a refusal.
    ///
    /// - Parameters:
    ///   - body: The message; at most ``ConnectionConfiguration/maximumMessageSize`` bytes.
    ///   - properties: Its properties.
    ///   - exchange: The exchange; empty for the default exchange, which routes by queue name.
    ///   - routingKey: The routing key.
    ///   - mandatory: Whether a message that cannot be routed to a queue is an error.
    ///   - timeout: The time limit for the channel and the confirm together; `nil` for ``ConnectionConfiguration/operationTimeout``.
    /// - Throws: The errors of ``AMQPChannel/publish(_:properties:exchange:routingKey:mandatory:timeout:)`` and
    ///   ``waitUntilReady(timeout:)``. A message that was not written before its channel was lost is published on another one, within the
    ///   timeout; a written message is never sent again.
    public func publish(
        _ body: ByteBuffer,
        properties: MessageProperties = MessageProperties(),
        exchange: String = "",
        routingKey: String,
        mandatory: Bool = false,
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        let timeout = (timeout ?? operationTimeout).bounded
        let message = OutgoingMessage(
            body,
            properties: properties,
            exchange: exchange,
            routingKey: routingKey,
            mandatory: mandatory
        )
        try await publishObserved(message, before: .now + timeout, timeout)
    }

    /// Publishes within a span and records metrics, where they are enabled.
    private func publishObserved(
        _ message: OutgoingMessage,
        before deadline: ContinuousClock.Instant,
        _ timeout: Duration
    ) async throws(AMQPError) {
        guard metrics != nil || instruments != nil else { return try await publish(message, before: deadline, timeout) }
        let begun = metrics?.began()
        let result: Result<Void, AMQPError>
        do throws(AMQPError) {
            if let instruments {
                try await instruments.publishing(message) { message throws(AMQPError) in
                    try await publish(message, before: deadline, timeout)
                }
            } else {
                try await publish(message, before: deadline, timeout)
            }
            result = .success(())
        } catch {
            result = .failure(error)
        }
        if let metrics, let begun { metrics.ended(to: message.destination, since: begun, result) }
        try result.get()
    }

    /// - Parameter timeout: The timeout behind the deadline, for error messages.
    func publish(
        _ message: OutgoingMessage,
        before deadline: ContinuousClock.Instant,
        _ timeout: Duration
    ) async throws(AMQPError) {
        while true {
            let admission = publishScreen.admit(message)
            switch admission {
            case .shared:
                do throws(AMQPError) {
                    return try await publishScreen.noting(message) { () async throws(AMQPError) in
                        try await message.publish(on: channel(before: deadline), before: deadline)
                    }
                } catch {
                    // A lost channel accepts nothing more, so the registry does not return it again.
                    guard case .notSent(let cause) = error, cause.isEndOfChannel, ContinuousClock.now < deadline else {
                        throw error
                    }
                }
            case .alone(let ground, let notBefore, let refusal):
                return try await publishAlone(message, on: ground, notBefore, refusal, before: deadline)
            case .wait(let trial, let refusal):
                let left = ContinuousClock.now.duration(to: deadline)
                switch await trial.wait(atMost: left) {
                case .accepted, .unknown: continue
                case .refused(let error): throw .notSent(error.of(message))
                case nil:
                    if Task.isCancelled { throw .notSent(.cancelled(operation: "publish")) }
                    throw .notSent(
                        refusal?.of(message) ?? .timedOut(operation: "publish", after: timeout)
                    )
                }
            }
        }
    }

    /// Publishes the message on a separate channel, which it may close.
    private func publishAlone(
        _ message: OutgoingMessage,
        on ground: PublishRefusal.Ground,
        _ notBefore: ContinuousClock.Instant,
        _ refusal: AMQPError?,
        before deadline: ContinuousClock.Instant
    ) async throws(AMQPError) {
        var trial: RefusedPublishes.Trial? = .unknown
        defer {
            if let trial { publishScreen.tried(ground, trial) }
        }
        let pause = ContinuousClock.now.duration(to: min(notBefore, deadline))
        if pause > .zero {
            do {
                try await Task.sleep(for: pause)
            } catch {
                throw .notSent(.cancelled(operation: "publish"))
            }
        }
        if notBefore >= deadline, let refusal { throw .notSent(refusal.of(message)) }
        let channel: AMQPChannel
        do throws(AMQPError) {
            channel = try await channelBesideReadyOne(before: deadline)
        } catch {
            // If the connection cannot open another channel, the message shares one.
            guard case .tooManyChannels = error.cause, refusal == nil else { throw error }
            channel = try await self.channel(before: deadline)
            return try await publishScreen.noting(message) { () async throws(AMQPError) in
                try await message.publish(on: channel, before: deadline)
                trial = .accepted
            }
        }
        let result: Result<Void, AMQPError>
        do throws(AMQPError) {
            result = .success(try await message.publish(on: channel, before: deadline))
            publishScreen.tried(ground, .accepted)
        } catch {
            result = .failure(error)
            publishScreen.tried(ground, RefusedPublishes.Trial(error))
        }
        // Already delivered: those who wait for the outcome need not wait for the channel to close.
        trial = nil
        await channel.close()
        try result.get()
    }
}

extension AMQPPool {
    /// Opens a channel for one message, on the connection of a ready channel, so that everything declared by `onOpen` exists.
    private func channelBesideReadyOne(before deadline: ContinuousClock.Instant) async throws(AMQPError) -> AMQPChannel
    {
        while true {
            let ready = try await channel(before: deadline)
            do throws(AMQPError) {
                return try await ready.connection.openChannel(timeout: ContinuousClock.now.duration(to: deadline))
            } catch {
                // The connection was lost in the meantime; the registry does not return its channels again.
                guard error.cause.isEndOfChannel, ContinuousClock.now < deadline else { throw error.asNotSent }
            }
        }
    }
}

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
