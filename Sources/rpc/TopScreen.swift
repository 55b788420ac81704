import SupervisionObserver

/// The contents of `rpc top` and its reactions to keys: a value, so that it can be tested without a terminal.
struct TopScreen: Sendable {
    enum Key: Sendable, Equatable {
        case character(Character)
        case up, down, left, right, pageUp, pageDown, home, end
        case enter, escape, backspace
    }

    enum Action: Sendable, Equatable {
        case quit
        /// Other rows of the tree have to be loaded.
        case load
    }

    enum View: Sendable, Equatable {
        case tree, calls, workers, events, help
    }

    var overview: Overview?
    var page: TreePage?
    var traffic: TrafficPage?
    var workers: WorkersPage?
    private(set) var events: [EventDocument] = []
    private(set) var view = View.tree
    private(set) var tree = 0
    private(set) var offset = 0
    private(set) var query = ""
    private(set) var isSearching = false
    private(set) var isPaused = false
    private(set) var toggled: Set<String> = []
    private(set) var selected = 0
    /// The number of lines scrolled away, in views other than the tree.
    private(set) var scrolled = 0
    /// Why no data arrives.
    var problem: String?
    /// The number of rows that fit.
    var height = 20

    private static let maximumEvents = 500

    /// The request for the visible rows.
    var request: TreeRequest {
        TreeRequest(
            tree: tree,
            query: query,
            offset: offset,
            limit: min(TreeRequest.maximumLimit, max(1, height)),
            toggled: toggled.sorted()
        )
    }

    mutating func add(_ event: EventDocument) {
        guard !isPaused, event.number > events.last?.number ?? 0 else { return }
        events.append(event)
        if events.count > Self.maximumEvents { events.removeFirst() }
    }

    /// - Returns: Whether the visible contents change.
    mutating func show(_ overview: Overview) -> Bool {
        guard !isPaused else { return false }
        self.overview = overview
        if !overview.trees.contains(where: { $0.id == tree }) { tree = overview.trees.first?.id ?? 0 }
        return true
    }

    // MARK: Keys

    mutating func handle(_ key: Key) -> Action? {
        if isSearching { return search(key) }
        switch key {
        case .character("q"), .character("Q"), .character("\u{3}"): return .quit
        case .character("/"):
            (view, isSearching) = (.tree, true)
            return nil
        case .character("t"): show(.tree)
        case .character("r"), .character("c"): show(.calls)
        case .character("w"): show(.workers)
        case .character("e"): show(.events)
        case .character("h"), .character("?"): show(view == .help ? .tree : .help)
        case .character("p"), .character(" "): isPaused.toggle()
        case .character("n"), .character("\t"): return nextTree()
        case .escape:
            if view != .tree { show(.tree) } else if !query.isEmpty { return look(for: "") }
        case .up, .character("k"): return move(by: -1)
        case .down, .character("j"): return move(by: 1)
        case .pageUp: return move(by: -max(1, height - 1))
        case .pageDown: return move(by: max(1, height - 1))
        case .home, .character("g"): return move(by: view == .tree ? -(offset + selected) : -scrolled)
        case .end, .character("G"): return move(by: view == .tree ? rowCount : bodyLines.count)
        case .enter, .left, .right: return toggle(key)
        case .backspace, .character: return nil
        }
        return nil
    }

    private mutating func search(_ key: Key) -> Action? {
        switch key {
        case .enter: isSearching = false
        case .escape:
            isSearching = false
            return look(for: "")
        case .backspace: return look(for: String(query.dropLast()))
        case .character(let character): return look(for: query + String(character))
        case .up, .down, .left, .right, .pageUp, .pageDown, .home, .end: return nil
        }
        return nil
    }

    private mutating func look(for query: String) -> Action {
        self.query = String(query.prefix(100))
        (offset, selected) = (0, 0)
        return .load
    }

    private mutating func nextTree() -> Action? {
        guard let trees = overview?.trees, !trees.isEmpty else { return nil }
        let index = trees.firstIndex { $0.id == tree } ?? -1
        tree = trees[(index + 1) % trees.count].id
        (offset, selected, toggled) = (0, 0, [])
        return .load
    }

    private mutating func show(_ view: View) {
        self.view = view
        scrolled = 0
    }

    private var rowCount: Int { page?.rows ?? 0 }

    private mutating func move(by step: Int) -> Action? {
        guard view == .tree else {
            scrolled = min(max(0, scrolled + step), max(0, bodyLines.count - height))
            return nil
        }
        guard rowCount > 0 else { return nil }
        let position = min(max(0, offset + selected + step), rowCount - 1)
        let before = offset
        if position < offset { offset = position }
        if position >= offset + height { offset = position - height + 1 }
        selected = position - offset
        return offset == before ? nil : .load
    }

    private mutating func toggle(_ key: Key) -> Action? {
        guard view == .tree, let page, page.page.indices.contains(selected) else { return nil }
        let row = page.page[selected]
        guard row.isSupervisor else { return nil }
        if key == .left, !row.isOpen { return nil }
        if key == .right, row.isOpen { return nil }
        if toggled.remove(row.key) == nil { toggled.insert(row.key) }
        return .load
    }
}
