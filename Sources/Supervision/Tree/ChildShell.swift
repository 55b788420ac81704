/// What is kept for one child. Small, because there may be very many.
struct ChildShell: Sendable {
    /// What few of them have.
    struct Extras: Sendable {
        var delay: SupervisionTimer?
        var abandoned = 0
        /// When the incarnation before ended.
        var downSince: Duration?
    }

    let specification: ChildSpecification
    /// The request that brought it, to tell it from an earlier owner of its slot.
    var entry: UInt64 = 0
    var incarnation: SupervisorProcess.Incarnation?
    var extras = Rare<Extras>()
    /// Whether the metrics know of its incarnation.
    var isCounted = false

    init(_ specification: ChildSpecification, entry: UInt64 = 0) {
        self.specification = specification
        self.entry = entry
    }
}

/// By slot. As long as there have been children at a time.
struct ChildShells: Sendable {
    private var shells: [ChildShell?] = []

    subscript(slot: SupervisorCore.Slot) -> ChildShell? {
        get { shells.indices.contains(slot) ? shells[slot] : nil }
        set {
            guard slot >= 0 else { return }
            while shells.count <= slot { shells.append(nil) }
            shells[slot] = newValue
        }
    }

    /// Changes what is there, if there is anything. In place, which an optional chain through the subscript would not be.
    @discardableResult
    mutating func update<Result>(_ slot: SupervisorCore.Slot, _ body: (inout ChildShell) -> Result) -> Result? {
        guard shells.indices.contains(slot) else { return nil }
        return ChildShells.update(&shells[slot], body)
    }

    private static func update<Result>(_ shell: inout ChildShell?, _ body: (inout ChildShell) -> Result) -> Result? {
        guard var changed = shell.take() else { return nil }
        defer { shell = changed }
        return body(&changed)
    }
}
