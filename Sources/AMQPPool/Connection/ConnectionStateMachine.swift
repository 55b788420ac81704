/// The state machine of an AMQP connection on channel 0, without I/O: handshake, negotiation, heartbeats, blocking, closing. Time is passed
/// with the inputs.
struct ConnectionStateMachine {
    typealias Instant = ContinuousClock.Instant

    enum Action {
        case sendProtocolHeader
        case send(Method)
        case sendHeartbeat
        /// The parameters are negotiated, and apply to the frames that follow.
        case negotiated(Negotiated)
        /// The connection is ready for channels.
        case opened
        case blocked(reason: String)
        case unblocked
        /// The broker has accepted the new secret.
        case secretUpdated
        /// The connection has ended. Everything pending fails with the error; `isClean` when this side closed it and the broker
        /// acknowledged. The transport is closed after pending writes. Once.
        case ended(AMQPError, isClean: Bool)
    }

    struct Negotiated: Equatable {
        var channelMax: UInt16
        var frameMax: UInt32
        /// Zero means none.
        var heartbeat: Duration
    }

    /// The client's data for the handshake. Contains the password until it has been sent.
    struct Login {
        var endpoint: String
        var virtualHost: String
        var username: String
        var password: String
        var connectionName: String?
        var channelMax: UInt16
        /// With fewer channels the connection is useless.
        var requiredChannels: UInt16 = 1
        var frameMax: UInt32
        /// In seconds; 0 requests none.
        var heartbeat: UInt16
        /// SASL mechanisms by preference.
        var mechanisms = ["PLAIN"]
        /// Whether TLS comes first.
        var isEncrypted = false
    }

    private enum Phase {
        case idle
        case encrypting
        case awaitingStart
        case awaitingTune
        case awaitingOpen
        case open
        case closing
        case ended
    }

    private var phase = Phase.idle
    private var login: Login
    private var heartbeats: HeartbeatMonitor?
    private var credentialBytes = 0
    private(set) var blockedReason: String?
    /// The broker's properties and the negotiated parameters, once known.
    private(set) var serverProperties = FieldTable()
    private(set) var negotiated: Negotiated?
    /// The id of the method because of which the broker closed the connection; 0 if it named none, `nil` if the broker did not close it.
    private(set) var closeCause: UInt32?

    init(login: Login) {
        self.login = login
    }

    /// Whether the connection is open for new work.
    var isOpen: Bool {
        if case .open = phase { true } else { false }
    }

    /// Whether frames of channels may be processed: also while closing, for returns and confirms that still arrive.
    var carriesChannels: Bool {
        switch phase {
        case .open, .closing: true
        case .idle, .encrypting, .awaitingStart, .awaitingTune, .awaitingOpen, .ended: false
        }
    }

    /// When ``tick(now:_:)`` is due; `nil` if it is not.
    func nextTick(after now: Instant) -> Instant? {
        heartbeats?.nextCheck(after: now)
    }

    // MARK: Inputs

    /// The TCP connection is established.
    mutating func connected(_ actions: inout [Action]) {
        guard case .idle = phase else { return }
        if login.isEncrypted { phase = .encrypting } else { greet(&actions) }
    }

    /// The TLS handshake is complete, and the peer is verified.
    mutating func encrypted(_ actions: inout [Action]) {
        guard case .encrypting = phase else { return }
        greet(&actions)
    }

    private mutating func greet(_ actions: inout [Action]) {
        phase = .awaitingStart
        actions.append(.sendProtocolHeader)
    }

    mutating func read(at now: Instant) { heartbeats?.read(at: now) }
    mutating func wrote(at now: Instant) { heartbeats?.wrote(at: now) }

    mutating func tick(now: Instant, _ actions: inout [Action]) {
        switch heartbeats?.check(at: now) {
        case nil, .fine: break
        case .sendHeartbeat: actions.append(.sendHeartbeat)
        case .peerIsSilent: end(.heartbeatTimeout(interval: heartbeats?.interval ?? .zero), &actions)
        }
    }

    /// A method arrived on channel 0.
    mutating func receive(_ method: Method, now: Instant, _ actions: inout [Action]) {
        switch method {
        case .connectionStart(let start):
            if expects(method, in: .awaitingStart, &actions) { started(start, &actions) }
        case .connectionTune(let channelMax, let frameMax, let heartbeat):
            if expects(method, in: .awaitingTune, &actions) { tuned(channelMax, frameMax, heartbeat, now, &actions) }
        case .connectionOpenOK:
            guard expects(method, in: .awaitingOpen, &actions) else { break }
            phase = .open
            actions.append(.opened)
        case .connectionClose(let reason):
            guard phase != .ended else { break }
            actions.append(.send(.connectionCloseOK))
            closeCause = reason.cause
            end(closed(by: reason), &actions)
        case .connectionCloseOK:
            if expects(method, in: .closing, &actions) { end(.connectionClosed, isClean: true, &actions) }
        case .connectionBlocked(let reason):
            guard expects(method, in: .open, &actions) else { break }
            blockedReason = reason
            actions.append(.blocked(reason: reason))
        case .connectionUnblocked:
            guard expects(method, in: .open, &actions) else { break }
            blockedReason = nil
            actions.append(.unblocked)
        case .connectionUpdateSecretOK:
            if expects(method, in: .open, &actions) { actions.append(.secretUpdated) }
        // What a client sends, a mechanism that needs more than one step, and what belongs on a channel.
        case .connectionStartOK, .connectionSecure, .connectionSecureOK, .connectionTuneOK, .connectionOpen,
            .connectionUpdateSecret, .channelOpen, .channelOpenOK, .channelFlow, .channelFlowOK, .channelClose,
            .channelCloseOK, .exchangeDeclare, .exchangeDeclareOK, .exchangeDelete, .exchangeDeleteOK, .exchangeBind,
            .exchangeBindOK, .exchangeUnbind, .exchangeUnbindOK, .queueDeclare, .queueDeclareOK, .queueBind,
            .queueBindOK, .queueUnbind, .queueUnbindOK, .queuePurge, .queuePurgeOK, .queueDelete, .queueDeleteOK,
            .basicQos, .basicQosOK, .basicConsume, .basicConsumeOK, .basicCancel, .basicCancelOK, .basicPublish,
            .basicReturn, .basicDeliver, .basicGet, .basicGetOK, .basicGetEmpty, .basicAck, .basicReject, .basicNack,
            .basicRecover, .basicRecoverOK, .confirmSelect, .confirmSelectOK, .unsupported:
            _ = expects(method, in: nil, &actions)
        }
    }

    /// Whether a method comes in the phase in which it may. In another one the peer breaks the protocol, unless this side has
    /// closed already: what was under way then is absorbed.
    private mutating func expects(_ method: Method, in expected: Phase?, _ actions: inout [Action]) -> Bool {
        if phase == expected { return true }
        switch phase {
        case .closing, .ended: break
        case .idle, .encrypting, .awaitingStart, .awaitingTune, .awaitingOpen, .open:
            fail(.protocolViolation("unexpected \(method.name) on channel 0"), &actions)
        }
        return false
    }

    /// Begins to close the connection.
    mutating func close(_ actions: inout [Action]) {
        switch phase {
        case .open:
            phase = .closing
            actions.append(.send(.connectionClose(CloseReason(replyCode: 200, replyText: "closed by the client"))))
        case .idle, .encrypting, .awaitingStart, .awaitingTune, .awaitingOpen: end(.connectionClosed, &actions)
        case .closing, .ended: break
        }
    }

    /// Ends the connection without waiting for the broker: a deadline passed, or a task was cancelled.
    mutating func abort(_ error: AMQPError, _ actions: inout [Action]) {
        end(error, &actions)
    }

    /// Closes the connection because the peer violated the protocol, here or on a channel: sends the reason, without waiting for an answer.
    mutating func fail(_ error: AMQPError, _ actions: inout [Action]) {
        guard carriesChannels, case .protocolViolation(let what) = error else { return end(error, &actions) }
        let text = String(decoding: "UNEXPECTED_FRAME - \(what)".utf8.prefix(255), as: UTF8.self)
        actions.append(.send(.connectionClose(CloseReason(replyCode: 505, replyText: text))))
        end(error, &actions)
    }

    /// The TCP connection ended, or could not be opened.
    ///
    /// - Parameter failure: The TLS failure, if there was one.
    mutating func transportClosed(reason: String, tls failure: TLSFailure? = nil, _ actions: inout [Action]) {
        switch phase {
        case .ended: break
        case .idle: end(.connectFailed(endpoint: login.endpoint, reason: reason), &actions)
        case .encrypting: end(tlsFailed(failure ?? .endedInHandshake(reason: reason)), &actions)
        // With TLS 1.3 the handshake is complete for the client before the broker has verified its certificate.
        case .awaitingStart where login.isEncrypted:
            end(tlsFailed(failure ?? .endedAfterHandshake(reason: reason)), &actions)
        case .awaitingStart, .awaitingTune: end(handshakeFailed(.authenticate, reason + sizeHint), &actions)
        case .awaitingOpen: end(handshakeFailed(.openVirtualHost, reason), &actions)
        case .open: end(.connectionLost(reason: reason), &actions)
        // The broker may close its side right after its close-ok was lost on the way: nothing proves that it had routed everything.
        case .closing: end(.connectionLost(reason: reason), &actions)
        }
    }

    /// The deadline for opening has passed.
    mutating func openTimedOut(after timeout: Duration, _ actions: inout [Action]) {
        let reason = "not answered within \(timeout)"
        switch phase {
        case .idle: end(.connectFailed(endpoint: login.endpoint, reason: reason), &actions)
        case .encrypting: end(tlsFailed(.timedOut(after: timeout)), &actions)
        case .awaitingStart, .awaitingTune: end(handshakeFailed(.authenticate, reason + sizeHint), &actions)
        case .awaitingOpen: end(handshakeFailed(.openVirtualHost, reason), &actions)
        case .open, .closing, .ended: break
        }
    }

    // MARK: Handshake

    private mutating func started(_ start: ConnectionStart, _ actions: inout [Action]) {
        guard start.versionMajor == 0, start.versionMinor == 9 else {
            let version = "\(start.versionMajor)-\(start.versionMinor)"
            return end(handshakeFailed(.authenticate, "the broker speaks AMQP \(version), not 0-9-1"), &actions)
        }
        serverProperties = start.serverProperties
        let offered = start.mechanisms.split(separator: " ")
        guard let mechanism = login.mechanisms.first(where: { offered.contains(Substring($0)) }) else {
            let wanted = login.mechanisms.joined(separator: " or ")
            let reason = "the broker does not offer \(wanted) authentication, but: \(start.mechanisms)"
            return end(handshakeFailed(.authenticate, reason), &actions)
        }
        // With EXTERNAL the broker takes the user from the client certificate.
        let response =
            mechanism == "EXTERNAL" ? [] : [0] + Array(login.username.utf8) + [0] + Array(login.password.utf8)
        credentialBytes = response.count
        login.password = ""
        phase = .awaitingTune
        actions.append(
            .send(
                .connectionStartOK(
                    clientProperties: clientProperties,
                    mechanism: mechanism,
                    response: response,
                    locale: "en_US"
                )
            )
        )
    }

    /// A broker gives no reason when the first frame is too large.
    private var sizeHint: String {
        let bytes = credentialBytes + (login.connectionName?.utf8.count ?? 0)
        guard bytes > 3500 else { return "" }
        return
            "; user, password and connection name are \(bytes) bytes, and RabbitMQ before 4.1 takes no more than about "
            + "3800, later about 7900"
    }

    private var clientProperties: FieldTable {
        var properties: FieldTable = [
            "product": "swift-supervision",
            "version": .string(LibraryVersion.text),
            "platform": "Swift",
            "capabilities": .table([
                "consumer_cancel_notify": true,
                "connection.blocked": true,
                "publisher_confirms": true,
                "basic.nack": true,
                "authentication_failure_close": true,
                "exchange_exchange_bindings": true,
            ]),
        ]
        if let name = login.connectionName { properties["connection_name"] = .string(name) }
        return properties
    }

    private mutating func tuned(
        _ channelMax: UInt16,
        _ frameMax: UInt32,
        _ heartbeat: UInt16,
        _ now: Instant,
        _ actions: inout [Action]
    ) {
        guard frameMax == 0 || frameMax >= 4096 else {
            return end(handshakeFailed(.authenticate, "the broker asks for frames of \(frameMax) bytes"), &actions)
        }
        let frameMax = Self.agree(login.frameMax, frameMax)
        let channelMax = Self.agree(login.channelMax, channelMax)
        guard channelMax == 0 || channelMax >= login.requiredChannels else {
            let needed = login.requiredChannels
            return end(.tooFewChannels(endpoint: login.endpoint, limit: channelMax, needed: needed), &actions)
        }
        let seconds = Self.agree(login.heartbeat, heartbeat)
        if seconds > 0 { heartbeats = HeartbeatMonitor(interval: .seconds(Int64(seconds)), now: now) }
        phase = .awaitingOpen
        actions.append(.send(.connectionTuneOK(channelMax: channelMax, frameMax: frameMax, heartbeat: seconds)))
        let agreed = Negotiated(channelMax: channelMax, frameMax: frameMax, heartbeat: .seconds(Int64(seconds)))
        negotiated = agreed
        actions.append(.negotiated(agreed))
        actions.append(.send(.connectionOpen(virtualHost: login.virtualHost)))
    }

    /// The smaller of two limits, where 0 means no limit.
    private static func agree<Limit: FixedWidthInteger>(_ ours: Limit, _ theirs: Limit) -> Limit {
        ours == 0 || theirs == 0 ? max(ours, theirs) : min(ours, theirs)
    }

    // MARK: End

    private func closed(by reason: CloseReason) -> AMQPError {
        switch phase {
        case .awaitingTune where reason.replyCode == 403:
            .authenticationFailed(endpoint: login.endpoint, text: reason.replyText)
        case .awaitingStart, .awaitingTune:
            handshakeFailed(.authenticate, "\(reason.replyCode) \(reason.replyText)")
        case .awaitingOpen:
            .virtualHostRefused(
                endpoint: login.endpoint,
                virtualHost: login.virtualHost,
                code: reason.replyCode,
                text: reason.replyText
            )
        case .idle, .encrypting, .open, .closing, .ended:
            .connectionClosedByBroker(code: reason.replyCode, text: reason.replyText)
        }
    }

    private func handshakeFailed(_ stage: AMQPError.Stage, _ reason: String) -> AMQPError {
        .handshakeFailed(endpoint: login.endpoint, stage: stage, reason: reason)
    }

    private func tlsFailed(_ failure: TLSFailure) -> AMQPError {
        .tlsFailed(endpoint: login.endpoint, failure)
    }

    private mutating func end(_ error: AMQPError, isClean: Bool = false, _ actions: inout [Action]) {
        if case .ended = phase { return }
        phase = .ended
        heartbeats = nil
        blockedReason = nil
        login.password = ""
        actions.append(.ended(error, isClean: isClean))
    }
}
