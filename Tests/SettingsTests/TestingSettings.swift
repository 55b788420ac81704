import AMQPTesting
import LocalBroker
import NIOCore
import NIOPosix
import Supervision
import SupervisionTesting

/// How long an invariant may take to come true: there is none.
private let quick = Duration.milliseconds(10)

/// What tests are written with: brokers that do not start, since a node takes seconds, networks, clocks and storms.
struct TestingSettings {
    /// The port of a broker.
    let port: Int

    var all: [Setting] { brokers + networks + clocks + chaos + faults }

    /// The program that is started ends at once: what is tried lies around it.
    private var brokers: [Setting] {
        @Sendable
        func start(_ options: LocalBroker.Options) async throws {
            do {
                try await LocalBroker.start(options).shutdown()
            } catch LocalBrokerError.startFailed {
            }
        }
        let of = SettingsOf("LocalBroker.Options", { LocalBroker.Options() }, use: start)
        return [
            of("startTimeout", \.startTimeout, deadline: true), of("stopTimeout", \.stopTimeout),
            of("requestTimeout", \.requestTimeout), of("port", \.port),
            Setting("LocalBroker.Options.init#startTimeout", deadline: true) { value in
                try await start(LocalBroker.Options(startTimeout: value))
            },
            Setting("LocalBroker.Options.init#stopTimeout") { try await start(LocalBroker.Options(stopTimeout: $0)) },
            Setting("LocalBroker.Options.init#requestTimeout") {
                try await start(LocalBroker.Options(requestTimeout: $0))
            },
            Setting("LocalBroker.Options.init#port") { (value: Int) in try await start(LocalBroker.Options(port: value))
            },
            Setting("LocalBroker.TLS.port") { (value: Int) in
                var tls = LocalBroker.TLS(certificate: "none", key: "none", authorities: "none")
                tls.port = value
                try await start(LocalBroker.Options(tls: tls))
            },
            Setting("LocalBroker.TLS.init#port") { (value: Int) in
                let tls = LocalBroker.TLS(certificate: "none", key: "none", authorities: "none", port: value)
                try await start(LocalBroker.Options(tls: tls))
            },
            Setting("LocalBrokerCluster.start#nodes") { value in
                do {
                    try await LocalBrokerCluster.start(nodes: value).shutdown()
                } catch LocalBrokerError.startFailed {
                }
            },
            Setting("BrokerVersion.init#major") { _ = BrokerVersion($0).description },
            Setting("BrokerVersion.init#minor") { _ = BrokerVersion(4, $0) < BrokerVersion(4) },
            Setting("BrokerVersion.init#patch") { _ = BrokerVersion(4, 0, $0) < BrokerVersion(4) },
        ]
    }

    private var networks: [Setting] {
        let of = SettingsOf("NetworkConditions", { NetworkConditions() }) { try await pass($0) }
        return [
            of("delay", \.delay), of("bytesPerSecond", \.bytesPerSecond),
            Setting("NetworkConditions.init#delay") { try await pass(NetworkConditions(delay: $0)) },
            Setting("NetworkConditions.init#bytesPerSecond") { (value: Int) in
                try await pass(NetworkConditions(bytesPerSecond: value))
            },
            Setting("NetworkConditions.delayed#by") { try await pass(.delayed(by: $0)) },
            Setting("NetworkConditions.limited#to") { try await pass(.limited(to: $0)) },
            Setting("FaultProxy.start#port") { [port] (value: Int) in
                let proxy = try await FaultProxy.start(toPort: port, port: value)
                await proxy.shutdown()
            },
            Setting("FaultProxy.start#toPort", called: "port") { value in
                let proxy = try await FaultProxy.start(toPort: value)
                await proxy.shutdown()
            },
        ]
    }

    private func pass(_ conditions: NetworkConditions) async throws {
        let proxy = try await FaultProxy.start(toPort: port)
        await proxy.set(conditions)
        let client = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .connect(host: "127.0.0.1", port: proxy.port).get()
        // A slow network may deliver nothing of it; the broker's answer is not waited for.
        try await client.writeAndFlush(ByteBuffer(string: "AMQP\0\0\u{9}\u{1}"))
        await proxy.cut()
        await proxy.shutdown()
        try? await client.close()
    }

    private var clocks: [Setting] {
        [
            Setting("ManualClock.schedule#after") { value in
                let clock = ManualClock()
                _ = clock.schedule(after: value) {}
                clock.schedule(after: value) {}.cancel()
                clock.advance(by: .seconds(1))
                _ = clock.nextTimer
            },
            Setting("ManualClock.advance#by") { value in
                let clock = ManualClock()
                _ = clock.schedule(after: .seconds(1)) {}
                clock.advance(by: value)
                clock.advance(by: value)
            },
            Setting("LiveTree.restarted#within", deadline: true) { value in
                let root = Supervisor("app", logger: quiet) { Child("a") { _ in Plain() } }
                try await root.start()
                do {
                    try await LiveTree(root).restarted(within: value)
                } catch {
                    await root.stop()
                    throw error
                }
                await root.stop()
            },
            Setting("LiveTree.settled#within", deadline: true) { value in
                let root = Supervisor("app", logger: quiet) { Child("a") { _ in Plain() } }
                try await root.start()
                do {
                    try await LiveTree(root).settled(within: value)
                } catch {
                    await root.stop()
                    throw error
                }
                await root.stop()
            },
        ]
    }

    private var chaos: [Setting] {
        let tree: @Sendable () -> Supervisor = {
            Supervisor("app", intensity: RestartIntensity(100, within: .seconds(1)), logger: quiet) {
                Child("a") { _ in Polite() }
                Child("b") { _ in Polite() }
            }
        }
        let fault = Chaos.Fault("nothing") { _ in }
        return [
            Setting("Chaos.init#timeout", deadline: true) { try await Chaos(timeout: $0, tree: tree).matrix([.crash]) },
            Setting("Chaos.init#stallTimeout", deadline: true) {
                try await Chaos(stallTimeout: $0, tree: tree).matrix([.crash])
            },
            Setting("Chaos.shrinkingTime") { value in
                var chaos = Chaos(stallTimeout: quick, tree: tree)
                chaos.shrinkingTime = value
                try await chaos.matrix([.crash])
            },
            Setting("Chaos.pairs#sample") { (value: Int) in
                try await Chaos(stallTimeout: quick, tree: tree).pairs(sample: value)
            },
            Setting("Chaos.pairs#seed") { try await Chaos(stallTimeout: quick, tree: tree).pairs(sample: 1, seed: $0) },
            Setting("Chaos.storm#seed") { try await Chaos(stallTimeout: quick, tree: tree).storm(seed: $0, kills: 1) },
            Setting("Chaos.storm#kills") { value in
                try await Chaos(stallTimeout: quick, tree: tree).storm(kills: value, lasting: .milliseconds(200))
            },
            Setting("Chaos.storm#lasting") { (value: Duration) in
                try await Chaos(stallTimeout: quick, tree: tree).storm(kills: 3, lasting: min(value, .seconds(1)))
            },
            Setting("Chaos.storm#faults") { value in
                try await Chaos(faults: [fault], stallTimeout: quick, tree: tree).storm(kills: 1, faults: value)
            },
            Setting("Chaos.Pace.pausing") { value in
                try await Chaos(stallTimeout: quick, tree: tree).storm(
                    kills: 3,
                    pace: .pausing(min(value, .milliseconds(10)))
                )
            },
            Setting("Chaos.Pace.every") { value in
                try await Chaos(stallTimeout: quick, tree: tree).storm(
                    kills: 3,
                    pace: .every(min(value, .milliseconds(10)))
                )
            },
            Setting("Chaos.Pace.atOnce") {
                try await Chaos(stallTimeout: quick, tree: tree).storm(kills: 3, pace: .atOnce($0))
            },
            Setting("Chaos.Scenario.Kill.pause") { value in
                var kill = Chaos.Scenario.Kill("app/a", .crash)
                kill.pause = min(value, .milliseconds(10))
                try await Chaos(stallTimeout: quick, tree: tree).replay(Chaos.Scenario([[kill]]))
            },
            Setting("Chaos.Scenario.Kill.init#after") { value in
                let kill = Chaos.Scenario.Kill("app/a", .crash, after: min(value, .milliseconds(10)))
                try await Chaos(stallTimeout: quick, tree: tree).replay(Chaos.Scenario([[kill]]))
                _ = Chaos.Scenario.Kill("app/a", .crash, after: value).description
            },
            Setting("Chaos.Scenario.Kill.fault#after") { value in
                let kill = Chaos.Scenario.Kill.fault("nothing", after: min(value, .milliseconds(10)))
                try await Chaos(faults: [fault], stallTimeout: quick, tree: tree).replay(Chaos.Scenario([[kill]]))
            },
            Setting("Chaos.Way.Failures.times") { value in
                try await Chaos(stallTimeout: quick, tree: tree).replay(
                    Chaos.Scenario([[.init("app/a", .failingRestart(.times(min(value, 10))))]])
                )
                _ = Chaos.Way.failingRestart(.times(value)).description
            },
            Setting("Chaos.LeakCheck.descriptors") { (value: Int) in
                var leaks = Chaos.LeakCheck()
                leaks.descriptors = max(value, 1000)
                try await Chaos(stallTimeout: quick, leaks: leaks, tree: tree).matrix([.crash])
            },
            Setting("Chaos.LeakCheck.memory") { (value: Int) in
                var leaks = Chaos.LeakCheck()
                leaks.memory = value
                try await Chaos(stallTimeout: quick, leaks: leaks, tree: tree).matrix([.crash])
            },
            Setting("Chaos.LeakCheck.init#descriptors") { (value: Int) in
                try await Chaos(stallTimeout: quick, leaks: Chaos.LeakCheck(descriptors: value), tree: tree).matrix([
                    .crash
                ])
            },
            Setting("Chaos.LeakCheck.init#memory") { (value: Int) in
                try await Chaos(stallTimeout: quick, leaks: Chaos.LeakCheck(memory: value), tree: tree).matrix([.crash])
            },
        ]
    }

    private var faults: [Setting] {
        let tree: @Sendable () -> Supervisor = { Supervisor("app", logger: quiet) { Child("a") { _ in Polite() } } }
        @Sendable
        func inflict(_ fault: Chaos.Fault) async throws {
            // One that lasts for ever is given up, and says so.
            _ = try? await Chaos(faults: [fault], timeout: .milliseconds(200), stallTimeout: quick, tree: tree)
                .eachFault()
        }
        @Sendable
        func weighted(_ fault: Chaos.Fault) async throws {
            // Each fault is followed by the time in which restarts are counted.
            try await Chaos(faults: [fault, Chaos.Fault("other") { _ in }], stallTimeout: quick, tree: tree).storm(
                kills: 1,
                faults: 1
            )
        }
        return [
            // The others wait in the same way.
            Setting("Chaos.Fault.networkStalled#for") { [port] value in
                let proxy = try await FaultProxy.start(toPort: port)
                try await inflict(.networkStalled(proxy, for: value))
                try await inflict(.networkHalfOpen(proxy, for: value))
                try await inflict(.networkSlow(proxy, for: value))
                try await inflict(.connectionsRefused(proxy, for: value))
                for fault in Chaos.Fault.network(proxy, for: value) { try await inflict(fault) }
                await proxy.shutdown()
            },
            Setting("Chaos.Fault.weight") { value in
                var fault = Chaos.Fault("nothing") { _ in }
                fault.weight = value
                try await weighted(fault)
            },
            Setting("Chaos.Fault.init#weight") { try await weighted(Chaos.Fault("nothing", weight: $0) { _ in }) },
            Setting("Chaos.Fault.weighted#weight") { try await weighted(Chaos.Fault("nothing") { _ in }.weighted($0)) },
        ]
    }
}
