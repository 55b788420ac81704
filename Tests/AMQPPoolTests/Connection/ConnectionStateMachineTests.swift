import Testing

@testable import AMQPPool

@Suite("The connection's decisions")
struct ConnectionStateMachineTests {
    typealias Action = ConnectionStateMachine.Action
    typealias Instant = ContinuousClock.Instant

    static let start = ConnectionStart(
        versionMajor: 0,
        versionMinor: 9,
        serverProperties: [:],
        mechanisms: "AMQPLAIN PLAIN",
        locales: "en_US"
    )

    private let now = Instant.now

    private func make(heartbeat: UInt16 = 10, frameMax: UInt32 = 131_072) -> ConnectionStateMachine {
        ConnectionStateMachine(
            login: .init(
                endpoint: "broker",
                virtualHost: "v",
                username: "me",
                password: "s3cret",
                connectionName: "name",
                channelMax: 2047,
                frameMax: frameMax,
                heartbeat: heartbeat
            )
        )
    }

    /// A connection that is open.
    private func opened(heartbeat: UInt16 = 10) -> ConnectionStateMachine {
        var machine = make()
        _ = machine.run { $0.connected(&$1) }
        _ = machine.receive(.connectionStart(Self.start), at: now)
        _ = machine.receive(.connectionTune(channelMax: 0, frameMax: 0, heartbeat: heartbeat), at: now)
        _ = machine.receive(.connectionOpenOK, at: now)
        return machine
    }

    @Test("The handshake greets, authenticates, agrees and opens, in this order")
    func handshake() throws {
        var machine = make()
        #expect(machine.run { $0.connected(&$1) }.names == ["header"])
        let started = machine.receive(.connectionStart(Self.start), at: now)
        guard case .send(.connectionStartOK(let properties, "PLAIN", let response, _)) = started.first else {
            Issue.record("\(started)")
            return
        }
        #expect(response == Array("\0me\0s3cret".utf8))
        #expect(properties["connection_name"] == "name")
        guard case .table(let capabilities) = properties["capabilities"] else {
            Issue.record("no capabilities")
            return
        }
        #expect(
            capabilities.entries.map(\.key).sorted() == [
                "authentication_failure_close", "basic.nack", "connection.blocked", "consumer_cancel_notify",
                "exchange_exchange_bindings", "publisher_confirms",
            ]
        )
        let tuned = machine.receive(.connectionTune(channelMax: 100, frameMax: 8192, heartbeat: 60), at: now)
        #expect(tuned.names == ["connection.tune-ok", "negotiated", "connection.open"])
        guard case .negotiated(let negotiated) = tuned[1] else { return }
        #expect(negotiated == .init(channelMax: 100, frameMax: 8192, heartbeat: .seconds(10)))
        #expect(!machine.isOpen)
        #expect(machine.receive(.connectionOpenOK, at: now).names == ["opened"])
        #expect(machine.isOpen)
        #expect(!"\(machine)".contains("s3cret"))
    }

    @Test("Of two limits the lesser holds, and 0 is no limit", arguments: [(0, 20, 20), (20, 0, 20), (20, 30, 20)])
    func negotiation(_ ours: UInt16, _ theirs: UInt16, _ agreed: Int64) {
        var machine = make(heartbeat: ours)
        _ = machine.run { $0.connected(&$1) }
        _ = machine.receive(.connectionStart(Self.start), at: now)
        let tuned = machine.receive(.connectionTune(channelMax: 1, frameMax: 4096, heartbeat: theirs), at: now)
        guard case .negotiated(let negotiated) = tuned[1] else {
            Issue.record("\(tuned)")
            return
        }
        #expect(negotiated.heartbeat == .seconds(agreed))
    }

    @Test("What the broker refuses in the handshake is named by its stage")
    func refusals() {
        var machine = make()
        _ = machine.run { $0.connected(&$1) }
        _ = machine.receive(.connectionStart(Self.start), at: now)
        var other = machine
        let refused = machine.receive(
            .connectionClose(CloseReason(replyCode: 403, replyText: "ACCESS_REFUSED")),
            at: now
        )
        #expect(refused.names == ["connection.close-ok", "ended"])
        guard case .authenticationFailed("broker", "ACCESS_REFUSED")? = refused.error else {
            Issue.record("\(refused)")
            return
        }
        _ = other.receive(.connectionTune(channelMax: 1, frameMax: 4096, heartbeat: 0), at: now)
        let missing = other.receive(.connectionClose(CloseReason(replyCode: 530, replyText: "NOT_ALLOWED")), at: now)
        guard case .virtualHostRefused("broker", "v", 530, "NOT_ALLOWED")? = missing.error else {
            Issue.record("\(missing)")
            return
        }
        #expect(other.receive(.connectionOpenOK, at: now).isEmpty)
    }

    @Test("A broker of another version, or without PLAIN, is refused")
    func unsuitable() {
        var start = Self.start
        start.versionMinor = 8
        var machine = make()
        _ = machine.run { $0.connected(&$1) }
        #expect(machine.receive(.connectionStart(start), at: now).error?.stage == .authenticate)
        start.versionMinor = 9
        start.mechanisms = "EXTERNAL PLAINER"
        machine = make()
        _ = machine.run { $0.connected(&$1) }
        #expect("\(machine.receive(.connectionStart(start), at: now))".contains("does not offer PLAIN"))
    }

    @Test("A heartbeat is due when nothing was written for half the interval; two silent intervals are the end")
    func heartbeats() {
        var machine = opened(heartbeat: 10)
        #expect(machine.nextTick(after: now) == now + .seconds(5))
        #expect(machine.run { $0.tick(now: now + .seconds(4.9), &$1) }.isEmpty)
        #expect(machine.run { $0.tick(now: now + .seconds(5), &$1) }.names == ["heartbeat"])
        machine.wrote(at: now + .seconds(5))
        #expect(machine.run { $0.tick(now: now + .seconds(6), &$1) }.isEmpty)
        #expect(machine.nextTick(after: now + .seconds(6)) == now + .seconds(10))
        machine.read(at: now + .seconds(3))
        machine.wrote(at: now + .seconds(20))
        #expect(machine.nextTick(after: now + .seconds(20)) == now + .seconds(23))
        #expect(machine.run { $0.tick(now: now + .seconds(22.9), &$1) }.isEmpty)
        let silent = machine.run { $0.tick(now: now + .seconds(23), &$1) }
        guard case .heartbeatTimeout(.seconds(10))? = silent.error else {
            Issue.record("\(silent)")
            return
        }
        #expect(machine.nextTick(after: now) == nil)
    }

    @Test("A heartbeat that cannot be written is not asked for again at once")
    func stuckHeartbeat() {
        let machine = opened(heartbeat: 10)
        #expect(machine.nextTick(after: now + .seconds(6)) == now + .seconds(11))
        #expect(machine.nextTick(after: now + .seconds(18)) == now + .seconds(20))
    }

    @Test("Blocked and unblocked are told, and do not end the connection")
    func blocked() {
        var machine = opened()
        #expect(machine.receive(.connectionBlocked(reason: "low on memory"), at: now).names == ["blocked"])
        #expect(machine.blockedReason == "low on memory")
        #expect(machine.isOpen)
        #expect(machine.receive(.connectionUnblocked, at: now).names == ["unblocked"])
        #expect(machine.blockedReason == nil)
    }

    @Test("Closing is clean when the broker acknowledges it, and only then")
    func closing() {
        var machine = opened()
        #expect(machine.run { $0.close(&$1) }.names == ["connection.close"])
        #expect(!machine.isOpen && machine.carriesChannels)
        #expect(machine.run { $0.close(&$1) }.isEmpty)
        #expect(machine.receive(.connectionBlocked(reason: ""), at: now).isEmpty)
        var other = machine
        guard case .ended(.connectionClosed, isClean: true)? = machine.receive(.connectionCloseOK, at: now).first else {
            Issue.record("not clean")
            return
        }
        guard
            case .ended(.connectionLost, isClean: false)? = other.run({ $0.transportClosed(reason: "reset", &$1) })
                .first
        else {
            Issue.record("clean")
            return
        }
        #expect(other.run { $0.transportClosed(reason: "again", &$1) }.isEmpty)
    }

    @Test("The broker's close is acknowledged, and keeps its code and text")
    func closedByBroker() {
        var machine = opened()
        let actions = machine.receive(
            .connectionClose(CloseReason(replyCode: 320, replyText: "CONNECTION_FORCED")),
            at: now
        )
        #expect(actions.names == ["connection.close-ok", "ended"])
        #expect(actions.error?.replyCode == 320)
        guard case .connectionClosedByBroker(320, "CONNECTION_FORCED")? = actions.error else {
            Issue.record("\(actions)")
            return
        }
    }

    @Test("A peer that breaks the protocol is told so, and not waited for")
    func violation() {
        var machine = opened()
        let actions = machine.receive(.connectionOpenOK, at: now)
        #expect(actions.names == ["connection.close", "ended"])
        var young = make()
        _ = young.run { $0.connected(&$1) }
        #expect(young.receive(.connectionOpenOK, at: now).names == ["ended"])
    }

    @Test("The deadline for opening tells how far things had come")
    func openTimedOut() {
        var machine = make()
        #expect(machine.run { $0.openTimedOut(after: .seconds(1), &$1) }.error?.stage == .connect)
        machine = make()
        _ = machine.run { $0.connected(&$1) }
        #expect(machine.run { $0.openTimedOut(after: .seconds(1), &$1) }.error?.stage == .authenticate)
        machine = make()
        _ = machine.run { $0.connected(&$1) }
        _ = machine.receive(.connectionStart(Self.start), at: now)
        _ = machine.receive(.connectionTune(channelMax: 1, frameMax: 4096, heartbeat: 0), at: now)
        #expect(machine.run { $0.openTimedOut(after: .seconds(1), &$1) }.error?.stage == .openVirtualHost)
        machine = opened()
        #expect(machine.run { $0.openTimedOut(after: .seconds(1), &$1) }.isEmpty)
    }

    @Test("Channel numbers are used once each, and again when they are released")
    func channelNumbers() {
        var ids = ChannelIDs(limit: 3)
        #expect([ids.allocate(), ids.allocate(), ids.allocate(), ids.allocate()] == [1, 2, 3, nil])
        ids.release(2)
        #expect([ids.allocate(), ids.allocate()] == [2, nil])
    }
}

extension ConnectionStateMachine {
    mutating func run(_ input: (inout ConnectionStateMachine, inout [Action]) -> Void) -> [Action] {
        var actions: [Action] = []
        input(&self, &actions)
        return actions
    }

    mutating func receive(_ method: Method, at now: Instant) -> [Action] {
        run { $0.receive(method, now: now, &$1) }
    }
}

extension [ConnectionStateMachine.Action] {
    var names: [String] {
        map { action in
            switch action {
            case .sendProtocolHeader: "header"
            case .send(let method): method.name
            case .sendHeartbeat: "heartbeat"
            case .negotiated: "negotiated"
            case .opened: "opened"
            case .blocked: "blocked"
            case .unblocked: "unblocked"
            case .secretUpdated: "secretUpdated"
            case .ended: "ended"
            }
        }
    }

    var error: AMQPError? {
        for case .ended(let error, _) in self { return error }
        return nil
    }
}
