import Foundation
import Logging
import Metrics
import MetricsTestKit
import Supervision
import SupervisionTesting
import Synchronization
import TestTurns
import Testing

@Suite("What a tree tells of itself")
struct ObservabilityTests {
    @Test("events come in the order in which things happened")
    func events() async throws {
        let supervisor = Supervisor("app", strategy: .oneForAll) {
            Child("a") { _ in Counter() }
            Child("b") { _ in Counter() }
        }
        try await supervisor.start()
        let events = supervisor.events
        try LiveTree(supervisor).end("app/a")
        try await LiveTree(supervisor).settled()
        await supervisor.stop()
        var told: [String] = []
        for await event in events {
            let kind =
                switch event.kind {
                case .started: "started"
                case .exited(let reason, let expected): "exited \(reason) \(expected)"
                case .stopped(let reason, let expected): "stopped \(reason) \(expected)"
                case .restarting: "restarting"
                default: "other"
                }
            told.append("\(event.path) \(kind)")
        }
        #expect(
            told == [
                "app/a exited killed false", "app/a restarting", "app/b stopped shutdown true", "app/a started",
                "app/b started", "app/b stopped shutdown true", "app/a stopped shutdown true",
            ]
        )
    }

    @Test("a reader that is too slow loses the oldest events, and they are counted")
    func droppedEvents() async throws {
        let supervisor = Supervisor("app") { DynamicSupervisor("many") }
        try await supervisor.start()
        let events = supervisor.events
        let many = try supervisor.dynamicSupervisor("many")
        for _ in 0..<1500 { try await many.startChild(Child("x") { _ in Counter() }) }
        #expect(events.dropped == 1500 - 1024)
        await supervisor.stop()
    }

    @Test("the tree prints as Mermaid and JSON")
    func formats() async throws {
        let supervisor = Supervisor("app") { Child("a") { _ in Counter() } }
        try await supervisor.start()
        let tree = supervisor.tree()
        #expect(
            tree.mermaid == """
                flowchart TD
                    n0["app<br/>one_for_one"]
                    n1("a<br/>Counter")
                    n0 --> n1
                """
        )
        let json = try #require(
            try JSONSerialization.jsonObject(with: Data(tree.json.utf8)) as? [String: Any]
        )
        #expect(json["name"] as? String == "app")
        let child = try #require((json["children"] as? [[String: Any]])?.first)
        #expect(child["path"] as? String == "app/a")
        #expect(child["status"] as? String == "running")
        #expect(child["age"] is Double)
        await supervisor.stop()
    }

    @Test("logs carry OTP's contexts and stable metadata keys")
    func logs() async throws {
        let lines = Mutex<[(Logger.Level, Logger.Metadata)]>([])
        let logger = Logger(label: "test") { _ in
            Recorder { level, metadata in lines.withLock { $0.append((level, metadata)) } }
        }
        let supervisor = Supervisor("app", intensity: .init(0, within: .seconds(1)), logger: logger) {
            Child("a") { _ in Counter() }
        }
        try await supervisor.start()
        try LiveTree(supervisor).end("app/a")
        try? await supervisor.run()
        let errors = lines.withLock { $0 }.filter { $0.0 == .error }
        #expect(errors.map { $0.1["supervision.context"] } == ["child_terminated", "shutdown"])
        #expect(errors.allSatisfy { $0.1["supervision.path"] == "app/a" && $0.1["supervision.reason"] == "killed" })
        #expect(errors.allSatisfy { $0.1["supervision.supervisor"] == "app" })
    }

    @Test("metrics count restarts, children and durations", .exitTest)
    func metrics() async throws {
        await #expect(processExitsWith: .success) {
            let test = TestMetrics()
            MetricsSystem.bootstrap(test)
            let supervisor = Supervisor("app") {
                Child("a") { _ in Counter() }
                Child("b") { _ in Counter() }
            }
            try await supervisor.start()
            try LiveTree(supervisor).end("app/a")
            try await LiveTree(supervisor).settled()
            let dimensions = [("tree", "app")]
            #expect(try test.expectCounter("supervision.restarts", dimensions).totalValue == 1)
            #expect(try test.expectCounter("supervision.exits.abnormal", dimensions).totalValue == 1)
            #expect(try test.expectMeter("supervision.children", dimensions).lastValue == 2)
            #expect(try test.expectTimer("supervision.start.duration", dimensions).values.count == 3)
            #expect(try test.expectTimer("supervision.restart.duration", dimensions).values.count == 1)
            await supervisor.stop()
            #expect(try test.expectMeter("supervision.children", dimensions).lastValue == 0)
        }
    }
}

private struct Recorder: LogHandler {
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.debug
    let record: @Sendable (Logger.Level, Logger.Metadata) -> Void

    init(_ record: @escaping @Sendable (Logger.Level, Logger.Metadata) -> Void) { self.record = record }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        record(event.level, event.metadata ?? [:])
    }
}
