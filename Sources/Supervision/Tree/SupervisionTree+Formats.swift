#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

extension SupervisionTree {
    /// The tree as a Mermaid flowchart, for documentation and dashboards.
    public var mermaid: String {
        var lines = ["flowchart TD"]
        var numbers = 0
        var waiting: [(node: SupervisionTree, parent: Int?)] = [(self, nil)]
        while let (node, parent) = waiting.popLast() {
            let number = numbers
            numbers += 1
            let text = "\(node.name)<br/>\(node.kindName)".replacing("\"", with: "#quot;")
            let shape: (String, String)
            switch node.kind {
            case .supervisor, .dynamicSupervisor: shape = ("[", "]")
            case .worker: shape = ("(", ")")
            }
            lines.append("    n\(number)\(shape.0)\"\(text)\"\(shape.1)")
            if let parent { lines.append("    n\(parent) --> n\(number)") }
            if node.status != .running { lines.append("    style n\(number) stroke-dasharray: 4") }
            for child in node.children.reversed() { waiting.append((child, number)) }
        }
        return lines.joined(separator: "\n")
    }

    /// The tree as JSON. Each node has `name`, `path`, `kind`, `status`, `restarts`, `abandoned` and `children`, and if present `pid`,
    /// `age` in seconds and `lastExit`.
    public var json: String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(JSONNode(self)) else { return "{}" }
        return String(decoding: data, as: UTF8.self)
    }

    var kindName: String {
        switch kind {
        case .supervisor(.oneForOne): "one_for_one"
        case .supervisor(.oneForAll): "one_for_all"
        case .supervisor(.restForOne): "rest_for_one"
        case .dynamicSupervisor: "dynamic"
        case .worker(let type): type
        }
    }

    private struct JSONNode: Encodable {
        let name: String
        let path: String
        let kind: String
        let status: String
        let pid: String?
        let age: Double?
        let restarts: Int
        let lastExit: String?
        let abandoned: Int
        let children: [JSONNode]

        init(_ tree: SupervisionTree) {
            name = tree.name
            path = tree.path
            kind = tree.kindName
            status = tree.status.rawValue
            pid = tree.pid?.description
            age = tree.age.map { Double($0.components.seconds) + Double($0.components.attoseconds) / 1e18 }
            restarts = tree.restarts
            lastExit = tree.lastExit?.description
            abandoned = tree.abandoned
            children = tree.children.map(JSONNode.init)
        }
    }
}
