extension Chaos {
    /// What happened to a tree: the difference between before and after.
    public struct Effects: Sendable, Hashable {
        /// The paths of processes with a new incarnation.
        public var restarted: Set<String>
        /// The paths of processes that no longer exist.
        public var removed: Set<String>
        /// The paths of processes that did not exist before.
        public var appeared: Set<String>
        /// The paths of supervisors that exceeded their restart intensity and ended.
        public var gaveUp: Set<String>
        /// Whether a process that cannot be started is retried again and again.
        public var keepsTrying: Bool
        /// Whether the root has ended.
        public var treeEnded: Bool

        /// Creates effects.
        public init(
            restarted: Set<String> = [],
            removed: Set<String> = [],
            appeared: Set<String> = [],
            gaveUp: Set<String> = [],
            keepsTrying: Bool = false,
            treeEnded: Bool = false
        ) {
            self.restarted = restarted
            self.removed = removed
            self.appeared = appeared
            self.gaveUp = gaveUp
            self.keepsTrying = keepsTrying
            self.treeEnded = treeEnded
        }

        /// The end of the whole tree.
        public static let end = Effects(treeEnded: true)
    }
}

/// The positions of a tree by path, in start order.
struct Shape: Sendable {
    private(set) var paths: [String] = []
    private var below: [String: [String]] = [:]
    private(set) var supervisors: Set<String> = []

    init(_ places: [(path: String, isSupervisor: Bool)]) {
        for place in places {
            paths.append(place.path)
            if place.isSupervisor { supervisors.insert(place.path) }
        }
    }

    var root: String { paths.first ?? "" }

    /// A path and its descendants.
    func subtree(_ path: String) -> Set<String> {
        Set(paths.filter { $0 == path || $0.hasPrefix(path + "/") })
    }
}

extension Chaos.Effects {
    /// The effects as text: "it alone", "app/db and below".
    ///
    /// - Parameters:
    ///   - shape: The tree before.
    ///   - targets: The ended processes.
    func phrase(in shape: Shape, targets: [String]) -> String {
        if treeEnded { return gaveUpPhrase + "the tree ends" }
        var parts: [String] = []
        // "It alone" is used only if nothing else happened.
        let targets = restarted.isEmpty || removed.isEmpty ? targets : []
        if !restarted.isEmpty { parts.append(phrase(of: restarted, in: shape, targets: targets)) }
        if !removed.isEmpty { parts.append("gone: " + phrase(of: removed, in: shape, targets: targets)) }
        if !appeared.isEmpty { parts.append("new: " + appeared.sorted().joined(separator: ", ")) }
        if keepsTrying { parts.append("is tried again and again") }
        return gaveUpPhrase + (parts.isEmpty ? "nothing" : parts.joined(separator: "; "))
    }

    private var gaveUpPhrase: String {
        gaveUp.isEmpty ? "" : gaveUp.sorted().joined(separator: ", ") + " gave up: "
    }

    private func phrase(of paths: Set<String>, in shape: Shape, targets: [String]) -> String {
        if let target = targets.first, targets.count == 1, paths == shape.subtree(target) {
            return shape.supervisors.contains(target) ? "it and what is below" : "it alone"
        }
        if paths == shape.subtree(shape.root).subtracting([shape.root]) { return "everything below the root" }
        for supervisor in shape.paths where shape.supervisors.contains(supervisor) {
            let all = shape.subtree(supervisor)
            if paths == all { return "\(supervisor) and below" }
            if paths == all.subtracting([supervisor]) { return "everything below \(supervisor)" }
        }
        var rest = paths
        var groups: [String] = []
        for path in shape.paths where rest.contains(path) {
            let all = shape.subtree(path)
            let isWhole = all.isSubset(of: paths)
            groups.append(isWhole && all.count > 1 ? "\(path) and below" : path)
            rest.subtract(isWhole ? all : [path])
        }
        return (groups + rest.sorted()).joined(separator: ", ")
    }
}
