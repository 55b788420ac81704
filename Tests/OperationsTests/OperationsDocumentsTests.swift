import AMQPPool
import Foundation
import RPCWire
import Supervision
import Testing

@Suite("docs/operations, and the metrics in docs/observability.md")
struct OperationsDocumentsTests {
    private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    private func text(_ path: String) throws -> String {
        try String(contentsOf: Self.root.appending(path: path), encoding: .utf8)
    }

    private static let names =
        MetricName.allCases.map(\.rawValue) + AMQPMetricName.allCases.map(\.rawValue)
        + SupervisionMetricName.allCases.map(\.rawValue)

    @Test(
        "every metric in the dashboard and in the alert rules exists",
        arguments: ["docs/operations/grafana-dashboard.json", "docs/operations/prometheus-alerts.yaml"]
    )
    func namesExist(_ path: String) throws {
        let known = Set(Self.names.map { $0.replacing(".", with: "_") })
        let used = Set(try text(path).matches(of: /\b(?:rpc|amqp|messaging|supervision)_[a-z_]+/).map { String($0.0) })
            // Labels.
            .subtracting(["messaging_destination_name", "messaging_operation_name", "messaging_system"])
        #expect(!used.isEmpty)
        for name in used.sorted() {
            let base = name.replacing(/_(bucket|sum|count)$/, with: "")
            #expect(known.contains(name) || known.contains(base), "\(name)")
        }
    }

    @Test("every metric is in the dashboard")
    func dashboardIsComplete() throws {
        let dashboard = try text("docs/operations/grafana-dashboard.json")
        for name in Self.names {
            #expect(dashboard.contains(name.replacing(".", with: "_")), "\(name)")
        }
    }

    @Test("the dashboard is JSON with a title and panels")
    func dashboardIsJSON() throws {
        let data = Data(try text("docs/operations/grafana-dashboard.json").utf8)
        let dashboard = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
        #expect(dashboard["title"] as? String == "swift-supervision")
        #expect((dashboard["panels"] as? [Any])?.isEmpty == false)
    }

    @Test("the tables of metrics list those that the code has, and no other")
    func tables() throws {
        let sections = try text("docs/observability.md").components(separatedBy: "\n## ")
        for (title, names) in [
            ("AMQP", AMQPMetricName.allCases.map(\.rawValue)),
            ("AMQP dimensions", AMQPMetricDimension.allCases.map(\.rawValue)),
            ("Spans of messages", MessageSpanAttribute.allCases.map(\.rawValue)),
            ("Trees", SupervisionMetricName.allCases.map(\.rawValue)),
        ] {
            let section = try #require(sections.first { $0.hasPrefix(title + "\n") }, "\(title)")
            let listed = section.matches(of: /\n\| `([^`]+)` \|/).map { String($0.1) }
            #expect(listed == names, "\(title)")
        }
    }
}
