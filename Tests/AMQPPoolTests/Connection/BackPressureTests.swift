import BrokerSupport
import LocalBroker
import NIOCore
import Testing

@testable import AMQPPool

extension AMQPChannel {
    /// How many publishers wait: for anything, and for nothing but room in the outbox.
    fileprivate var publishers: (all: Int, findNoRoom: Bool) { (publishes.count, !waitingPublishes.isEmpty) }
}

@Suite("Publishing faster than the broker takes")
struct BackPressureTests: PeerScript {
    @Test("Who finds the outbox full waits for room, in turn, and all is sent in the order in which it was published")
    func inTurn() async throws {
        try await withPeer({ $0.maximumOutboxEntries = 3 }) { peer, connection in
            let channel = try await openChannel(connection, peer, confirming: true)
            try await peer.send(.connectionBlocked(reason: "low on memory"))
            try await eventually("it is blocked") { connection.blockedReason != nil }
            let count = 40
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<count {
                    group.addTask { try await channel.publish(ByteBuffer(), routingKey: "\(number)") }
                    try await eventually("it is its turn") { await channel.publishers.all == number + 1 }
                }
                #expect(await channel.publishers.findNoRoom)
                try await peer.send(.connectionUnblocked)
                try await peer.wait(for: isPublish("\(count - 1)"))
                try await peer.send(.basicAck(deliveryTag: UInt64(count), multiple: true), channel: 1)
                try await group.waitForAll()
            }
            let keys = peer.received.values.compactMap { frame -> String? in
                guard case .method(_, .basicPublish(_, let key, _)) = frame else { return nil }
                return key
            }
            #expect(keys == (0..<count).map { "\($0)" })
        }
    }

    @Test(
        "On a slow socket the acknowledgements of a channel do not wait behind another's messages, and messages share what it takes"
    )
    func fairShare() async throws {
        try await withPeer { peer, connection in
            let bulk = try await openChannel(connection, peer, confirming: true)
            let acknowledging = try await openChannel(connection, peer, number: 2)
            let other = try await openChannel(connection, peer, confirming: true, number: 3)
            try await peer.stopReading()
            let outcomes = Recorder<String>()
            for _ in 0..<512 { bulk.submit(publish("bulk", outcomes, bytes: 65_536)) }
            try await eventually("the socket takes no more for now") { await connection.batch.isWriting }
            for tag in 1...100 { acknowledging.acknowledge(UInt64(tag)) }
            for _ in 0..<32 { other.submit(publish("other", outcomes, bytes: 65_536)) }
            // Behind what was handed over, on the event loop.
            _ = await (acknowledging.unconfirmed, other.unconfirmed)
            let written = await bulk.unconfirmed
            try await peer.resumeReading()
            try await peer.received.wait { $0.count { $0.isPublish(on: 1) } == 512 }
            let frames = peer.received.values
            let acknowledged = try #require(
                frames.lastIndex { if case .method(2, .basicAck) = $0 { true } else { false } }
            )
            #expect(frames[..<acknowledged].count { $0.isPublish(on: 1) } <= written)
            let last = try #require(frames.lastIndex { $0.isPublish(on: 3) })
            // Half a megabyte of each in turn.
            #expect(frames[..<last].count { $0.isPublish(on: 1) } <= written + 32 + 16)
        }
    }

    @Test(
        "On a stalled network they wait no longer than their deadline or cancellation; the others are sent when it flows again"
    )
    func stalled() async throws {
        try await withStalledChannel { channel, proxy in
            let waiting = Task { try await channel.publish(ByteBuffer(string: "waiting"), routingKey: "q") }
            try await eventually("one waits for room") { await channel.publishers.findNoRoom }
            let late = await failure { () async throws(AMQPError) in
                try await channel.publish(ByteBuffer(), routingKey: "q", timeout: .milliseconds(50))
            }
            guard case .notSent(.overloaded) = late else {
                Issue.record("\(String(describing: late))")
                return
            }
            let all = await channel.publishers.all
            let cancelled = Task {
                await failure { () async throws(AMQPError) in
                    try await channel.publish(ByteBuffer(), routingKey: "q")
                }
            }
            try await eventually("another one waits") { await channel.publishers.all == all + 1 }
            cancelled.cancel()
            guard case .notSent(.cancelled) = await cancelled.value else {
                Issue.record("\(String(describing: await cancelled.value))")
                return
            }
            await proxy.set(.healthy)
            try await waiting.value
            #expect(await channel.publishers.all == 0)
            // Behind what was there before, and nothing of the others.
            for body in [nil, "1", "2", "waiting"] {
                let message = try #require(try await channel.get(queue: "q", noAck: true))
                if let body { #expect(String(buffer: message.body) == body) }
            }
            #expect(try await channel.get(queue: "q", noAck: true) == nil)
        }
    }

    @Test("When the connection is lost, those that wait for room are told so, and that nothing of theirs was sent")
    func lost() async throws {
        try await withStalledChannel { channel, proxy in
            let waiting = (0..<10).map { _ in
                Task {
                    await failure { () async throws(AMQPError) in
                        try await channel.publish(ByteBuffer(), routingKey: "q")
                    }
                }
            }
            try await eventually("all wait") { await channel.publishers.all == 13 }
            await proxy.cut()
            for task in waiting {
                guard case .notSent(let cause) = await task.value, cause.isEndOfChannel else {
                    Issue.record("\(String(describing: await task.value))")
                    continue
                }
            }
        }
    }

    @Test("A channel with more to write than the socket takes leaves the others their turn")
    func fairness() async throws {
        try await withPeer { peer, connection in
            let bulk = try await openChannel(connection, peer)
            let replies = try await openChannel(connection, peer, number: 2)
            try await peer.send(.connectionBlocked(reason: "low on memory"))
            try await eventually("it is blocked") { connection.blockedReason != nil }
            let outcomes = Recorder<String>()
            // Each takes all the room of a write.
            for number in 0..<8 { bulk.submit(publish("bulk-\(number)", outcomes, bytes: 2 << 20)) }
            replies.submit(publish("reply", outcomes))
            replies.acknowledge(7)
            try await peer.send(.connectionUnblocked)
            try await peer.wait(for: isPublish("bulk-7"))
            let order = peer.received.values.compactMap { frame -> String? in
                switch frame {
                case .method(_, .basicPublish(_, let key, _)): key
                case .method(2, .basicAck): "ack"
                default: nil
                }
            }
            #expect(order.firstIndex(of: "reply").map { $0 <= 2 } == true, "\(order)")
            #expect(order.firstIndex(of: "ack").map { $0 <= 3 } == true, "\(order)")
        }
    }

    @Test("An acknowledgement is taken however full the outbox is: it may be what makes room")
    func acknowledgements() async throws {
        try await withPeer({ $0.maximumOutboxEntries = 3 }) { peer, connection in
            let channel = try await openChannel(connection, peer, confirming: true)
            try await peer.send(.connectionBlocked(reason: "low on memory"))
            try await eventually("it is blocked") { connection.blockedReason != nil }
            let outcomes = Recorder<String>()
            for _ in 0..<4 { channel.submit(publish("x", outcomes)) }
            #expect(try await outcomes.wait(for: 1) == ["notWritten"])
            channel.acknowledge(7)
            channel.reject(8, requeue: true)
            try await peer.send(.connectionUnblocked)
            try await peer.wait { $0 == .basicAck(deliveryTag: 7, multiple: false) }
            try await peer.wait { $0 == .basicReject(deliveryTag: 8, requeue: true) }
        }
    }

    @Test("Those that give up leave nothing behind, in whatever order")
    func givenUp() {
        var waiting = WaitingPublishes()
        let publish = { (name: String) in Publish(exchange: "", routingKey: name, body: ByteBuffer()) }
        for id in 1...1000 { waiting.append(publish("\(id)"), UInt64(id)) }
        let removed = (2...999).filter { $0 != 500 && waiting.remove(UInt64($0)) }
        #expect(removed.count == 997)
        let isThereTwice = waiting.remove(2)
        #expect(!isThereTwice)
        let first = waiting.first?.routingKey
        waiting.removeFirst()
        let second = waiting.first?.routingKey
        #expect([first, second] == ["1", "500"])
        waiting.append(publish("1001"), 1001)
        let rest = waiting.removeAll().map(\.routingKey)
        #expect(rest == ["500", "1000", "1001"])
        #expect(waiting.isEmpty)
        let last = waiting.first
        #expect(last == nil)
    }

    /// Runs the body with a channel that has a message on a network which carries no more, and two in its outbox, which is full.
    private func withStalledChannel(
        _ body: @escaping @Sendable (AMQPChannel, FaultProxy) async throws -> Void
    ) async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let proxy = try await FaultProxy.start(to: broker)
            var configuration = patient()
            configuration.maximumOutboxEntries = 2
            configuration.heartbeat = .seconds(60)
            configuration.closeTimeout = .seconds(1)
            let endpoint = try Endpoint(url: proxy.url(virtualHost: virtualHost))
            let connection = try await AMQPConnection.open(endpoint, configuration: configuration)
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            try await channel.selectConfirms()
            await proxy.set(.stalled)
            // More than the sockets take.
            let large = Task<Void, Never> {
                try? await channel.publish(ByteBuffer(repeating: 0, count: 12 << 20), routingKey: "q")
            }
            try await eventually("it is being written") { await channel.unconfirmed == 1 }
            var small: [Task<Void, Never>] = []
            for number in 1...2 {
                small.append(Task { try? await channel.publish(ByteBuffer(string: "\(number)"), routingKey: "q") })
                try await eventually("it is in the outbox") { await channel.publishers.all == number + 1 }
            }
            do {
                try await within(.seconds(120)) { try await body(channel, proxy) }
            } catch {
                await connection.close()
                await proxy.shutdown()
                throw error
            }
            await connection.close()
            await proxy.shutdown()
            for task in small + [large] { await task.value }
        }
    }
}

extension Frame {
    fileprivate func isPublish(on number: UInt16) -> Bool {
        if case .method(number, .basicPublish) = self { true } else { false }
    }
}
