import Supervision

/// The rows of a tree for a viewer: rows of closed supervisors and rows that do not match are left out, and only one page is created. A
/// pure function of a snapshot.
struct TreeView {
    /// A supervisor with more children than this is closed by default.
    static let openLimit = 100

    let snapshot: TreeSnapshot
    let shown: ShownErrors

    // MARK: Summary

    func summary(id: Int, name: String, mayPlayKillMatrix: Bool) -> TreeSummary {
        var summary = TreeSummary(
            id: id,
            name: DisplayText.line(name),
            isRunning: !snapshot.nodes.isEmpty,
            processes: 0,
            supervisors: 0,
            starting: 0,
            stopping: 0,
            restarting: 0,
            stopped: 0,
            restarts: 0,
            abandoned: 0,
            coolingDown: 0,
            mayPlayKillMatrix: mayPlayKillMatrix
        )
        var closest: (index: Int, part: Double)?
        for index in snapshot.nodes.indices {
            let node = snapshot.nodes[index]
            if node.pid != nil { summary.processes += 1 }
            if node.isSupervisor { summary.supervisors += 1 }
            switch node.status {
            case .running: break
            case .starting: summary.starting += 1
            case .stopping: summary.stopping += 1
            case .restarting: summary.restarting += 1
            case .stopped: summary.stopped += 1
            }
            summary.restarts += node.restarts
            summary.abandoned += node.abandoned
            if node.delay?.isCooldown == true { summary.coolingDown += 1 }
            if let window = node.window, window.used > 0 {
                let part = Double(window.used) / Double(max(1, window.intensity.restarts))
                if part > closest?.part ?? 0 { closest = (index, part) }
            }
        }
        summary.closest = closest.flatMap { window($0.index) }
        return summary
    }

    private func window(_ index: Int) -> WindowSummary? {
        guard let window = snapshot.nodes[index].window else { return nil }
        var summary = WindowSummary(
            path: DisplayText.line(snapshot.path(index)),
            used: window.used,
            allowed: window.intensity.restarts,
            period: window.intensity.period.seconds,
            whenExceeded: "escalate"
        )
        if case .cooldown(let pause) = window.whenExceeded {
            summary.whenExceeded = "cooldown"
            summary.cooldown = pause.seconds
        }
        return summary
    }

    // MARK: Rows

    func page(_ request: TreeRequest) -> TreePage {
        let toggled = Set((request.toggled ?? []).prefix(TreeRequest.maximumToggled))
        let query = Query(request.query ?? "")
        let matching = query.map { matches($0) }
        let visible = visibleRows(toggled, matching)
        let offset = min(max(0, request.offset ?? 0), visible.count)
        let limit = min(max(0, request.limit ?? 100), TreeRequest.maximumLimit)
        let rows = visible[offset..<min(visible.count, offset + limit)].map { index in
            row(index, isOpen: isOpen(index, toggled, matching), isMatch: matching?.matches[index] ?? false)
        }
        return TreePage(
            tree: request.tree,
            isRunning: !snapshot.nodes.isEmpty,
            rows: visible.count,
            offset: offset,
            matches: matching.map { $0.matches.count { $0 } },
            page: rows
        )
    }

    /// The row of one node, regardless of which supervisors are open.
    func row(_ index: Int, isOpen: Bool = false, isMatch: Bool = false) -> TreeRow {
        let node = snapshot.nodes[index]
        var below = (down: 0, restarts: 0)
        if node.isSupervisor {
            for other in snapshot.nodes[(index + 1)..<max(index + 1, node.end)] {
                if other.status != .running { below.down += 1 }
                below.restarts += other.restarts
            }
        }
        return TreeRow(
            key: snapshot.path(index),
            name: DisplayText.line(node.name),
            depth: node.depth,
            rails: rails(index),
            kind: kind(node),
            isSupervisor: node.isSupervisor,
            status: node.status.rawValue,
            pid: node.pid?.description,
            age: node.age?.seconds,
            restarts: node.restarts,
            lastExit: node.lastExit.map { shown.text($0) },
            abandoned: node.abandoned,
            startsIn: node.delay?.remaining.seconds,
            isCoolingDown: node.delay?.isCooldown ?? false,
            window: window(index),
            children: snapshot.children(index).count,
            below: max(0, node.end - index - 1),
            belowDown: below.down,
            belowRestarts: below.restarts,
            isOpen: isOpen,
            isMatch: isMatch
        )
    }

    func kind(_ node: TreeSnapshot.Node) -> String {
        switch node.kind {
        case .supervisor(.oneForOne): "one_for_one"
        case .supervisor(.oneForAll): "one_for_all"
        case .supervisor(.restForOne): "rest_for_one"
        case .dynamicSupervisor: "dynamic"
        case .worker: DisplayText.line(snapshot.typeName(node) ?? "")
        }
    }

    private func rails(_ index: Int) -> String {
        var rails = ""
        var next: Int? = index
        while let current = next, let parent = snapshot.nodes[current].parent {
            rails.append(snapshot.nodes[current].end >= snapshot.nodes[parent].end ? "0" : "1")
            next = parent
        }
        return String(rails.reversed())
    }

    /// The search words, as bytes with their first bytes extracted, because the search checks every process.
    private struct Query {
        let words: [[UInt8]]

        /// `nil` when the text has no words. At most eight words of 100 bytes each, all of which must match.
        init?(_ text: String) {
            words = text.lowercased().split(separator: " ").prefix(8).map { Array($0.utf8.prefix(100)) }
            if words.isEmpty { return nil }
        }
    }

    private struct Matching {
        var matches: [Bool]
        /// Matches and their ancestors.
        var isVisible: [Bool]
    }

    private func matches(_ query: Query) -> Matching {
        let count = snapshot.nodes.count
        var matching = Matching(
            matches: Array(repeating: false, count: count),
            isVisible: Array(repeating: false, count: count)
        )
        let types = snapshot.types.map { Array($0.lowercased().utf8) }
        for index in snapshot.nodes.indices.reversed() {
            let node = snapshot.nodes[index]
            let isMatch = query.words.allSatisfy { word in
                if Self.contains(node.name, word) || Self.contains(node.status.rawValue, word) { return true }
                if case .worker(let type) = node.kind, types.indices.contains(type) {
                    if Self.contains(types[type], word) { return true }
                } else if Self.contains(kind(node), word) {
                    return true
                }
                if let pid = node.pid, Self.contains("\(pid)", word) { return true }
                if let exit = node.lastExit, Self.contains(shown.text(exit), word) { return true }
                return node.restarts > 0 && Self.contains("restarted", word)
                    || node.delay?.isCooldown == true && Self.contains("cooling down", word)
                    || node.abandoned > 0 && Self.contains("abandoned zombie", word)
            }
            matching.matches[index] = isMatch
            if isMatch { matching.isVisible[index] = true }
            if matching.isVisible[index], let parent = node.parent { matching.isVisible[parent] = true }
        }
        return matching
    }

    private static func contains(_ text: String, _ word: [UInt8]) -> Bool {
        var text = text
        return text.withUTF8 { contains($0, word) }
    }

    /// Ignores the case of ASCII letters. `word` is in lower case and not empty.
    private static func contains(_ text: some RandomAccessCollection<UInt8>, _ word: [UInt8]) -> Bool {
        guard text.count >= word.count else { return false }
        var start = text.startIndex
        for _ in 0...(text.count - word.count) {
            var position = start
            var isEqual = true
            for byte in word {
                let other = text[position]
                let lower = (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(other) ? other | 0x20 : other
                if lower != byte {
                    isEqual = false
                    break
                }
                position = text.index(after: position)
            }
            if isEqual { return true }
            start = text.index(after: start)
        }
        return false
    }

    private func isOpen(_ index: Int, _ toggled: Set<String>, _ matching: Matching?) -> Bool {
        let node = snapshot.nodes[index]
        guard node.isSupervisor else { return false }
        // In a search result everything is open, so that matches are visible.
        if matching != nil { return true }
        let isOpen = node.depth == 0 || !hasMoreChildren(index, than: Self.openLimit)
        return toggled.isEmpty || !toggled.contains(snapshot.path(index)) ? isOpen : !isOpen
    }

    private func hasMoreChildren(_ index: Int, than limit: Int) -> Bool {
        var count = 0
        var next = index + 1
        while next < snapshot.nodes[index].end {
            count += 1
            if count > limit { return true }
            next = max(next + 1, snapshot.nodes[next].end)
        }
        return false
    }

    private func visibleRows(_ toggled: Set<String>, _ matching: Matching?) -> [Int] {
        var rows: [Int] = []
        var index = 0
        while index < snapshot.nodes.count {
            if let matching, !matching.isVisible[index] {
                index = max(index + 1, snapshot.nodes[index].end)
                continue
            }
            rows.append(index)
            let isClosed = snapshot.nodes[index].isSupervisor && !isOpen(index, toggled, matching)
            index = isClosed ? max(index + 1, snapshot.nodes[index].end) : index + 1
        }
        return rows
    }
}
