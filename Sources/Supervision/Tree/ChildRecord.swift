/// What is kept for one child. Small, because there may be very many.
struct ChildRecord: Sendable {
    /// What only few children use.
    struct Extras: Sendable {
        var delay: SupervisionTimer?
        var abandoned = 0
        /// When the incarnation before ended.
        var downSince: Duration?
    }

    let specification: ChildSpecification
    /// What its template is filled with, a ``ChildArgument``.
    let argument: (any AnyObject & Sendable)?
    /// The request that brought it, to tell it from an earlier owner of its slot.
    var entry: UInt64 = 0
    var incarnation: SupervisorProcess.Incarnation?
    var extras = BoxedOptional<Extras>()
    /// Whether the metrics know of its incarnation.
    var isCounted = false

    init(_ specification: ChildSpecification, _ argument: (any AnyObject & Sendable)? = nil, entry: UInt64 = 0) {
        self.specification = specification
        self.argument = argument
        self.entry = entry
    }
}

/// By slot. As long as there have been children at a time.
struct ChildRecords: Sendable {
    private var childRecords: [ChildRecord?] = []

    subscript(slot: SupervisorCore.Slot) -> ChildRecord? {
        get { childRecords.indices.contains(slot) ? childRecords[slot] : nil }
        set {
            guard slot >= 0 else { return }
            while childRecords.count <= slot { childRecords.append(nil) }
            childRecords[slot] = newValue
        }
    }

    /// Changes what is there, if there is anything. In place, which an optional chain through the subscript would not be.
    @discardableResult
    mutating func update<Result>(_ slot: SupervisorCore.Slot, _ body: (inout ChildRecord) -> Result) -> Result? {
        guard childRecords.indices.contains(slot) else { return nil }
        return ChildRecords.update(&childRecords[slot], body)
    }

    private static func update<Result>(_ childRecord: inout ChildRecord?, _ body: (inout ChildRecord) -> Result)
        -> Result?
    {
        guard var changed = childRecord.take() else { return nil }
        defer { childRecord = changed }
        return body(&changed)
    }
}
