import BrokerSupport
import LocalBroker
import NIOCore
import NIOPosix
import Supervision
import Testing

@Suite("A broker that is taken away and given back", .serialized)
struct LifecycleTests {
    @Test("kill -9 and start again: same port, durable queues are there, others are not")
    func killAndStartAgain() async throws {
        try await TestBroker.own { broker in
            try await broker.declareQueue("durable")
            if try await TestBroker.permitsTransientQueues() {
                try await broker.declareQueue("transient", durable: false)
            }
            let first = try #require(await broker.processID)
            try await broker.kill()
            #expect(await broker.processID == nil)
            await #expect(throws: LocalBrokerError.notRunning) { try await broker.queues() }
            await #expect(throws: (any Error).self) { try await connect(to: broker) }

            try await broker.startAgain()
            #expect(await broker.processID != first)
            try await connect(to: broker)
            let queues = try await broker.queues()
            #expect(queues.map(\.name) == ["durable"])

            try await broker.wipe()
            try await connect(to: broker)
            let afterWipe = try await broker.queues()
            #expect(afterWipe.isEmpty)
        }
    }

    @Test("a graceful stop keeps what is durable; a second stop does nothing")
    func stop() async throws {
        try await TestBroker.own { broker in
            try await broker.declareQueue("durable")
            await broker.stop()
            await broker.stop()
            #expect(await !broker.isRunning)
            await #expect(throws: LocalBrokerError.notRunning) { try await broker.kill() }
            try await broker.startAgain()
            let queues = try await broker.queues()
            #expect(queues.map(\.name) == ["durable"])
            await #expect(throws: LocalBrokerError.alreadyRunning) { try await broker.startAgain() }
        }
    }

    @Test("a paused broker answers nothing until it is resumed")
    func pause() async throws {
        var options = TestBroker.options
        options.requestTimeout = .milliseconds(300)
        try await TestBroker.own(options) { broker in
            try await broker.pause()
            await #expect(throws: LocalBrokerError.requestTimedOut(command: "queues", after: .milliseconds(300))) {
                try await broker.queues()
            }
            // The kernel still accepts connections for it.
            try await connect(to: broker)
            try await broker.resume()
            try await eventually("it answers") { (try? await broker.queues()) != nil }
            // Also a paused one can be killed.
            try await broker.pause()
            try await broker.kill()
        }
    }

    @Test("two brokers at once know nothing of each other")
    func two() async throws {
        try await TestBroker.own { first in
            try await TestBroker.own { second in
                #expect(first.port != second.port)
                #expect(first.folder != second.folder)
                try await first.declareQueue("first")
                let queues = try await second.queues()
                #expect(queues.isEmpty)
                try await second.kill()
                let running = await first.isRunning
                #expect(running)
                let firstQueues = try await first.queues()
                #expect(firstQueues.map(\.name) == ["first"])
            }
        }
    }

    @Test("its run throws when the node dies by itself, not when it is killed on purpose, and returns at the shutdown")
    func run() async throws {
        try await TestBroker.own { broker in
            let first = Task { try await broker.run() }
            try await broker.kill()
            try await broker.startAgain()

            let second = Task { try await broker.run() }
            let id = try #require(await broker.processID)
            killProcess(id)
            await #expect(throws: LocalBrokerError.endedUnexpectedly(.signalled(9))) { try await second.value }
            await #expect(throws: LocalBrokerError.endedUnexpectedly(.signalled(9))) { try await broker.run() }
            #expect(await !broker.isRunning)
            await #expect(throws: LocalBrokerError.endedUnexpectedly(.signalled(9))) { try await first.value }

            try await broker.startAgain()
            let third = Task { try await broker.run() }
            let cancelled = Task { try await broker.run() }
            cancelled.cancel()
            await #expect(throws: CancellationError.self) { try await cancelled.value }
            await broker.shutdown()
            try await third.value
        }
    }

    @Test("a supervisor restarts a broker whose node dies, and stops it without leaving anything")
    func supervised() async throws {
        let options = TestBroker.options
        let supervisor = Supervisor("broker") {
            Child("node", options: ChildOptions(shutdown: .timeout(.seconds(30))), onKill: { await $0.shutdown() }) {
                _ in
                try await LocalBroker.start(options)
            }
        }
        try await supervisor.start()
        let reference = try supervisor.child("node", as: LocalBroker.self)
        let first = try await reference.call { ($0.folder, $0.processID) }
        killProcess(try #require(first.1))
        var second = first.0
        try await eventually("it is restarted") {
            second = (try? await reference.call { $0.folder }) ?? first.0
            return second != first.0
        }
        try await eventually("nothing is left of the first") { remains(of: first.0).isEmpty }
        await supervisor.stop()
        #expect(remains(of: second) == [])
    }

    @Test("a shut down broker is gone for good")
    func shutdown() async throws {
        let broker = try await LocalBroker.start(TestBroker.options)
        #expect(!remains(of: broker.folder).isEmpty)
        await broker.shutdown()
        #expect(remains(of: broker.folder) == [])
        await broker.shutdown()
        await #expect(throws: LocalBrokerError.shutDown) { try await broker.startAgain() }
        await #expect(throws: LocalBrokerError.shutDown) { try await broker.queues() }
    }

    @Test("nothing is left of a broker that is no longer referred to")
    func release() async throws {
        let folder = try await {
            let broker = try await LocalBroker.start(TestBroker.options)
            return broker.folder
        }()
        try await eventually("nothing is left") { remains(of: folder).isEmpty }
    }

    @Test("a start that is cancelled leaves nothing")
    func cancelledStart() async throws {
        try await withParentFolder { parent in
            var options = TestBroker.options
            options.parentFolder = parent
            let start = Task { [options] in try await LocalBroker.start(options) }
            try await eventually("it has begun") { !brokerFolders(in: parent).isEmpty }
            let folders = brokerFolders(in: parent)
            start.cancel()
            await #expect(throws: LocalBrokerError.cancelled) { try await start.value }
            for folder in folders { #expect(remains(of: folder) == []) }
        }
    }

    @Test("a node that cannot start tells why, and leaves nothing")
    func failedStart() async throws {
        try await withParentFolder { parent in
            var options = TestBroker.options
            options.parentFolder = parent
            options.configuration = "no.such.setting = 1"
            let error = await #expect(throws: LocalBrokerError.self) { try await LocalBroker.start(options) }
            guard case .startFailed(_, let log) = error else {
                Issue.record("another error: \(String(describing: error))")
                return
            }
            #expect(log.contains("no.such.setting"))
            #expect(brokerFolders(in: parent) == [])
        }
    }
}

private func connect(to broker: LocalBroker) async throws {
    let channel = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
        .connect(host: "127.0.0.1", port: broker.port)
        .get()
    try await channel.close()
}
