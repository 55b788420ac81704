import BrokerSupport
import ConcurrencyPrimitives
import LocalBroker
import NIOCore
import Supervision
import SupervisionTesting
import Synchronization
import Testing

@testable import AMQPPool

@Suite("A consumer")
struct ConsumerTests {
    @Test("Each message is handled and acknowledged, and no more at once than the concurrency")
    func consumes() async throws {
        var configuration = RunningConsumer.quick()
        configuration.concurrency = 4
        let handled = Recorder<String>()
        let running = Atomic(0)
        let peak = Atomic(0)
        try await RunningConsumer.run(
            configuration,
            handler: { delivery in
                let now = running.add(1, ordering: .relaxed).newValue
                peak.max(now, ordering: .relaxed)
                await Task.yield()
                handled.append(delivery.text)
                running.subtract(1, ordering: .relaxed)
            }
        ) { app in
            for number in 0..<100 { try await app.publish("\(number)") }
            try await handled.wait(for: 100)
            try await app.empty()
            #expect(try await app.broker.consumers(virtualHost: app.virtualHost).map(\.prefetch) == [4])
        }
        #expect(Set(handled.values) == Set((0..<100).map { "\($0)" }))
        #expect(handled.values.count == 100)
        #expect((1...4).contains(peak.load(ordering: .relaxed)))
    }

    @Test(
        "One that is killed or crashes gets the same channel back, and what it had not acknowledged is delivered again",
        arguments: [LiveTree.Ending.kill, .crash()]
    )
    func sameChannel(_ ending: LiveTree.Ending) async throws {
        let begun = Recorder<Delivery>()
        let gate = Gate()
        try await RunningConsumer.run(
            handler: { delivery in
                begun.append(delivery)
                try await gate.passed()
            }
        ) { app in
            try await app.publish("a", "b", "c")
            try await begun.wait(for: 3)
            #expect(begun.values.allSatisfy { !$0.redelivered })
            for round in 1...5 {
                try app.tree.end(RunningConsumer.path, by: ending)
                try await app.opened.wait(for: round + 1)
                try await begun.wait(for: 3 * (round + 1))
            }
            let channels = app.opened.values
            #expect(channels.allSatisfy { $0 === channels[0] })
            #expect(begun.values.dropFirst(3).allSatisfy { $0.redelivered })
            #expect(try await app.broker.consumers(virtualHost: app.virtualHost).count == 1)
            gate.open()
            try await app.empty()
            // Its own, and that of the pool.
            #expect(try await app.broker.channels(virtualHost: app.virtualHost).count == 2)
        }
    }

    @Test("A handler of a crashed incarnation that ends late acknowledges nothing")
    func lateHandler() async throws {
        let begun = Recorder<Delivery>()
        let (stuck, free) = (Gate(), Gate())
        try await RunningConsumer.run(
            handler: { delivery in
                begun.append(delivery)
                if !delivery.redelivered {
                    // Does not notice that it is cancelled.
                    await Task.detached { try? await stuck.passed() }.value
                } else {
                    try await free.passed()
                }
            }
        ) { app in
            try await app.publish("a")
            try await begun.wait(for: 1)
            try app.tree.end(RunningConsumer.path, by: .kill)
            try await begun.wait(for: 2)
            stuck.open()
            try await app.publish("b")
            // It passes at once, behind the late one.
            try await eventually("only the redelivered one is unacknowledged") {
                let queue = try await app.broker.queue("q", virtualHost: app.virtualHost)
                return queue?.unacknowledged == 1 && queue?.ready == 0
            }
            #expect(begun.values.count == 3)
            free.open()
            try await app.empty()
            #expect(app.opened.values.count == 2)
            #expect(app.opened.values[0] === app.opened.values[1])
        }
    }

    @Test("When its queue is deleted it declares it again and goes on, on the same channel")
    func queueDeleted() async throws {
        let handled = Recorder<String>()
        try await RunningConsumer.run(handler: { handled.append($0.text) }) { app in
            for round in 1...3 {
                try await eventually("it consumes") {
                    try await app.broker.consumers(virtualHost: app.virtualHost).count == 1
                }
                try await app.broker.deleteQueue("q", virtualHost: app.virtualHost)
                try await app.opened.wait(for: round + 1)
                try await app.publish("\(round)")
                try await handled.wait(for: round)
            }
            #expect(app.opened.values.allSatisfy { $0 === app.opened.values[0] })
        }
        #expect(handled.values == ["1", "2", "3"])
    }

    @Test("When its connection is closed or dropped it waits for another, and goes on", arguments: [true, false])
    func connectionLost(_ politely: Bool) async throws {
        let handled = Recorder<String>()
        let begun = Recorder<Bool>()
        try await RunningConsumer.run(
            handler: { delivery in
                begun.append(delivery.redelivered)
                // The first delivery ends with its channel.
                if !delivery.redelivered { try await Gate().passed() }
                handled.append(delivery.text)
            }
        ) { app in
            try await app.publish("a")
            try await begun.wait(for: 1)
            let pid = try app.tree.process(RunningConsumer.path).pid
            let name = try #require(
                try await app.broker.consumers(virtualHost: app.virtualHost).first?.connection
            )
            if politely {
                try await app.broker.closeConnection(name)
            } else {
                try await app.broker.dropConnection(name)
            }
            try await handled.wait(for: 1)
            try await app.empty()
            #expect(begun.values == [false, true])
            // It is no failure of the consumer.
            #expect(try app.tree.process(RunningConsumer.path).pid == pid)
        }
        #expect(handled.values == ["a"])
    }

    @Test("While there is no broker it waits without failing, also when it is stopped")
    func noBroker() async throws {
        let peer = try await ScriptedPeer.start()
        let closed = Endpoint(host: "127.0.0.1", port: peer.port)
        await peer.stop()
        let pool = AMQPPool(endpoints: [closed])
        let root = Supervisor("app", intensity: RestartIntensity(0, within: .seconds(1))) {
            pool.supervisor
            Child.consumer("consumer", of: "q", on: pool, handler: { _ in })
        }
        try await root.start()
        try await eventually("it was tried") {
            let error = await failure { () async throws(AMQPError) in
                try await pool.waitUntilReady(timeout: .milliseconds(10))
            }
            guard case .notSent(.notConnected(let failures)) = error else { return false }
            return !failures.isEmpty
        }
        #expect(try LiveTree(root).process("app/consumer").pid.isAlive)
        try await within(.seconds(60)) { await root.stop() }
    }

    @Test("What the broker refuses to declare is a mistake that ends it, with the broker's text")
    func refusedTopology() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            try await broker.declareQueue("q", virtualHost: virtualHost)
            let pool = try RunningConsumer.pool(url)
            let root = Supervisor("app", intensity: RestartIntensity(0, within: .seconds(1))) {
                pool.supervisor
                Child.consumer("consumer", of: "q", on: pool) { channel in
                    try await channel.declareQueue("q", durable: true, arguments: ["x-max-length": 1])
                } handler: { _ in
                }
            }
            do {
                try await within(.seconds(60)) { try await root.run() }
                Issue.record("ended without an error")
            } catch {
                #expect("\(error)".contains("406 PRECONDITION_FAILED"))
            }
        }
    }

    @Test("Stopped, it finishes what it has begun, acknowledges it, and gives back the rest")
    func drains() async throws {
        var configuration = RunningConsumer.quick()
        configuration.concurrency = 2
        configuration.prefetch = 5
        let begun = Recorder<Delivery>()
        let handled = Recorder<String>()
        let gate = Gate()
        try await RunningConsumer.run(
            configuration,
            handler: { delivery in
                begun.append(delivery)
                try await gate.passed()
                handled.append(delivery.text)
            }
        ) { app in
            try await app.publish("a", "b", "c", "d", "e", "f", "g")
            try await begun.wait(for: 2)
            try await eventually("five are here") {
                try await app.broker.queue("q", virtualHost: app.virtualHost)?.unacknowledged == 5
            }
            try app.tree.process(RunningConsumer.path).pid.exit(.shutdown())
            try await eventually("the rest is given back") {
                let queue = try await app.broker.queue("q", virtualHost: app.virtualHost)
                return queue?.unacknowledged == 2 && queue?.ready == 5
            }
            #expect(begun.values.count == 2)
            gate.open()
            // A permanent child is started again, and goes on with the rest.
            try await handled.wait(for: 7)
            try await app.empty()
        }
        #expect(Set(handled.values) == ["a", "b", "c", "d", "e", "f", "g"])
        #expect(handled.values.count == 7)
    }

    @Test("A handler that does not end by the drain deadline is cancelled, and its message stays in the queue")
    func drainDeadline() async throws {
        var configuration = RunningConsumer.quick()
        configuration.drainTimeout = .milliseconds(50)
        let begun = Recorder<Delivery>()
        let cancelled = Recorder<Bool>()
        try await RunningConsumer.run(
            configuration,
            handler: { delivery in
                begun.append(delivery)
                do {
                    try await Gate().passed()
                } catch {
                    cancelled.append(true)
                    throw error
                }
            }
        ) { app in
            try await app.publish("a")
            try await begun.wait(for: 1)
            try await within(.seconds(60)) { await app.root.stop() }
            try await cancelled.wait(for: 1)
            try await eventually("it is back") {
                try await app.broker.queue("q", virtualHost: app.virtualHost)?.ready == 1
            }
        }
    }

    @Test("The pool can be started anew under it")
    func poolRestarts() async throws {
        let handled = Recorder<String>()
        try await RunningConsumer.run(handler: { handled.append($0.text) }) { app in
            for (round, process) in ["amqp-pool/registry", "amqp-pool", "amqp-pool/pool"].enumerated() {
                try app.tree.end("app/\(process)", by: .kill)
                try await app.tree.restarted(within: .seconds(60))
                try await app.opened.wait(for: round + 2)
                try await app.publish("\(round)")
                try await handled.wait(for: round + 1)
            }
        }
    }
}

/// Holds those who pass until it is opened, or they are cancelled.
final class Gate: Sendable {
    private let opened = OneShot<Void>()

    func open() { opened.set(()) }

    func passed() async throws {
        guard await opened.wait() != nil else { throw CancellationError() }
    }
}
