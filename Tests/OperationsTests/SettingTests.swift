import AMQPPool
import Foundation
import QueueWorkers
import RPCCaller
import RPCReceiver
import Supervision
import Testing

@Suite("Settings from the configuration of the process")
struct SettingTests {
    private func error(_ body: () throws(SettingError) -> Void) -> SettingError? {
        do throws(SettingError) {
            try body()
            return nil
        } catch {
            return error
        }
    }

    @Test("What is there is read, and the rest has its defaults")
    func read() throws {
        let values = SettingValues([
            "endpoints": "amqp://a:5672, amqps://u:p@b:5671/v", "connections": "3", "boot": "fail-when-refused",
            "connect.timeout": "250ms", "heartbeat": "1m", "shuffle.endpoints": "yes", "timeout": "1.5s",
            "when.nobody.serves": "fail-at-once", "concurrency": "25", "queue.type": "quorum", "replies": "Direct",
        ])
        let caller = try RPCCallerConfiguration(values)
        #expect(caller.pool.endpoints.map(\.host) == ["a", "b"])
        #expect(caller.pool.connections == 3 && caller.pool.boot == .failWhenRefused && caller.pool.shufflesEndpoints)
        #expect(caller.pool.connection.connectTimeout == .milliseconds(250))
        #expect(caller.pool.connection.heartbeat == .seconds(60))
        #expect(caller.timeout == .milliseconds(1500) && caller.whenNobodyServes == .failAtOnce)
        #expect(caller.replies == .direct)
        #expect(caller.confirms && caller.pool.channelsPerConnection == 1)
        let receiver = try RPCReceiverConfiguration(values)
        #expect(receiver.concurrency == 25 && receiver.queueArguments["x-queue-type"] == .string("quorum"))
        #expect(receiver.pool.endpoints.count == 2)
        let worker = try WorkerConfiguration(withoutPool: SettingValues(["prefetch": "7", "drain.timeout": "2"]))
        #expect(worker.prefetch == 7 && worker.drainTimeout == .seconds(2) && worker.concurrency == 10)
    }

    @Test(
        "What cannot be read names the setting, its value and what it should be",
        arguments: [
            ("connections", "many"), ("connections", "0"), ("connect.timeout", "5 parsecs"), ("connect.timeout", "-1s"),
            ("boot", "panic"), ("shuffle.endpoints", "perhaps"), ("heartbeat", "1e400s"), ("maximum.message.size", "0"),
        ]
    )
    func invalid(_ key: String, _ value: String) {
        let error = error { () throws(SettingError) in
            _ = try PoolConfiguration(SettingValues(["endpoints": "amqp://a", key: value]))
        }
        guard case .invalid(key, value, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        let variable = key.uppercased().replacing(".", with: "_")
        #expect("\(error.map { "\($0)" } ?? "")".contains(variable))
    }

    @Test("What has to be there and is not is named; a secret is in no error")
    func missing() {
        let missing = error { () throws(SettingError) in _ = try PoolConfiguration(SettingValues([:])) }
        #expect(missing == .missing(key: "endpoints"))
        let half = error { () throws(SettingError) in
            _ = try PoolConfiguration(SettingValues(["endpoints": "amqp://a", "password": "sesame"]))
        }
        #expect(half == .missing(key: "username"))
        let broken = error { () throws(SettingError) in
            _ = try PoolConfiguration(SettingValues(["endpoints": "amqp://u:sesame@a:99999"]))
        }
        #expect(broken != nil)
        #expect(!"\(String(describing: broken))".contains("sesame"))
    }

    @Test("A user and a password take the place of those in the URI")
    func credentials() throws {
        let configuration = try PoolConfiguration(
            SettingValues(["endpoints": "amqp://a", "username": "shop", "password": "sesame"])
        )
        #expect(configuration.connection.credentials != nil)
        #expect(!"\(configuration)".contains("sesame"))
    }

    @Test("The table lists every setting, with its name in the environment, and no other")
    func table() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let page = try String(contentsOf: root.appending(path: "docs/operations/configuration.md"), encoding: .utf8)
        let rows = page.matches(of: /\n\| `([a-z.]+)` \| (\w+) \| `([A-Z_]+)` \|/)
        let listed = rows.map { "\($0.2) \($0.1)" }
        let settings =
            PoolSetting.allCases.map { "pool \($0.rawValue)" } + CallerSetting.allCases.map { "caller \($0.rawValue)" }
            + ReceiverSetting.allCases.map { "receiver \($0.rawValue)" }
            + WorkerSetting.allCases.map { "worker \($0.rawValue)" }
        #expect(listed == settings)
        for row in rows {
            let scope = row.2 == "worker" ? "ORDERS_" : "RPC_"
            #expect(String(row.3) == scope + row.1.uppercased().replacing(".", with: "_"))
        }
    }
}
