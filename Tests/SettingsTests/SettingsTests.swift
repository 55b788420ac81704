import BrokerSupport
import Foundation
import LocalBroker
import Testing

/// Every public number and duration of every module is tried with 0, -1 and the greatest value, fractions with NaN and infinity
/// too: it works, or there is an error that names the setting. It never traps and never hangs.
///
/// Each group is tried in a process of its own, which a trap would end.
@Suite("Every setting at its extremes", .timeLimit(.minutes(10)))
struct SettingsTests {
    @Test("Every public number is tried: one that nobody tries makes this fail")
    func complete() throws {
        let found = try PublicNumbers.found()
        let tried = Set(
            (SupervisionSettings.all + AMQPSettings(url: "").all + RPCSettings(url: "").all
                + ActorSettings(url: "").all + WorkerSettings(url: "").all
                + TestingSettings(port: 0).all + ObserverSettings.all).map(\.name)
        )
        let told = found.filter { name in ToldNumbers.places.keys.contains { name == $0 || name.hasPrefix($0 + ".") } }
        let missing = found.subtracting(tried).subtracting(told).sorted()
        #expect(missing == [], "try each in Tests/SettingsTests, or say in ToldNumbers why it is none")
        #expect(tried.subtracting(found).sorted() == [], "these are no public settings any more")
        let unused = ToldNumbers.places.keys.filter { place in
            !found.contains { $0 == place || $0.hasPrefix(place + ".") }
        }
        #expect(unused.sorted() == [], "these tell no number any more")
        #expect(tried.isDisjoint(with: told))
    }

    @Test("No setting of Supervision traps or hangs, and an error names it")
    func supervision() async throws {
        try await tryAll { skipped, log in
            await #expect(processExitsWith: .success) { [skipped = skipped as [String], log = log as String] in
                await TrialRun.run(SupervisionSettings.all, skipping: skipped, log: log)
            }
        }
    }

    @Test("No setting of SupervisionObserver traps or hangs, and an error names it")
    func observer() async throws {
        try await tryAll { skipped, log in
            await #expect(processExitsWith: .success) { [skipped = skipped as [String], log = log as String] in
                await TrialRun.run(ObserverSettings.all, skipping: skipped, log: log)
            }
        }
    }

    @Test("No setting of AMQPPool traps or hangs, and an error names it")
    func amqp() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await tryAll { skipped, log in
                await #expect(processExitsWith: .success) {
                    [url = url as String, skipped = skipped as [String], log = log as String] in
                    await TrialRun.run(AMQPSettings(url: url).all, skipping: skipped, log: log)
                }
            }
        }
    }

    @Test("No setting of RPCActors traps or hangs, and an error names it")
    func actors() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await tryAll { skipped, log in
                await #expect(processExitsWith: .success) {
                    [url = url as String, skipped = skipped as [String], log = log as String] in
                    await TrialRun.run(ActorSettings(url: url).all, skipping: skipped, log: log)
                }
            }
        }
    }

    @Test("No setting of QueueWorkers traps or hangs, and an error names it")
    func workers() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await tryAll { skipped, log in
                await #expect(processExitsWith: .success) {
                    [url = url as String, skipped = skipped as [String], log = log as String] in
                    await TrialRun.run(WorkerSettings(url: url).all, skipping: skipped, log: log)
                }
            }
        }
    }

    @Test("No setting of RPCCaller and RPCReceiver traps or hangs, and an error names it")
    func rpc() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await tryAll { skipped, log in
                await #expect(processExitsWith: .success) {
                    [url = url as String, skipped = skipped as [String], log = log as String] in
                    await TrialRun.run(RPCSettings(url: url).all, skipping: skipped, log: log)
                }
            }
        }
    }

    @Test("No setting of what tests are written with traps or hangs, and an error names it")
    func testing() async throws {
        try await TestBroker.withVirtualHost { broker, _, _ in
            let port = broker.port
            try await tryAll { skipped, log in
                await #expect(processExitsWith: .success) {
                    [port = port as Int, skipped = skipped as [String], log = log as String] in
                    setenv("LOCAL_BROKER_RABBITMQ_SERVER", "/bin/false", 1)
                    await TrialRun.run(TestingSettings(port: port).all, skipping: skipped, log: log)
                }
            }
        }
    }

    /// Runs a process that tries all; again without the setting that ended it, until one comes to its end.
    private func tryAll(_ run: (_ skipped: [String], _ log: String) async throws -> ExitTest.Result?) async throws {
        let log = FileManager.default.temporaryDirectory.appendingPathComponent("settings-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: log) }
        var skipped = Array(KnownFaults.names)
        for _ in 0..<100 {
            _ = try await run(skipped, log)
            let summary = TrialRun.Summary(log: log)
            if !summary.slow.isEmpty { print(summary.slow.joined(separator: "\n")) }
            for failure in summary.failures { Issue.record("\(failure)") }
            guard let unfinished = summary.unfinished else { return }
            Issue.record("the process ended: \(unfinished)")
            guard let fatal = summary.fatal, !skipped.contains(fatal) else { return }
            skipped.append(fatal)
        }
    }
}
