/// The supervisor's bookkeeping for one child. Kept small, because there may be very many.
struct ChildRecord: Sendable {
    /// State that only a few children need.
    struct Extras: Sendable {
        var delay: SupervisionTimer?
        var abandoned = 0
        /// When the previous incarnation ended.
        var downSince: Duration?
    }

    let specification: ChildSpecification
    /// The argument of its template, a ``ChildArgument``.
    let argument: (any AnyObject & Sendable)?
    /// The request that added the child, to distinguish it from an earlier owner of the slot.
    var entry: UInt64 = 0
    var incarnation: SupervisorProcess.Incarnation?
    var extras = BoxedOptional<Extras>()
    /// Whether the incarnation is counted in the metrics.
    var isCounted = false

    init(_ specification: ChildSpecification, _ argument: (any AnyObject & Sendable)? = nil, entry: UInt64 = 0) {
        self.specification = specification
        self.argument = argument
        self.entry = entry
    }
}

/// The records by slot. Its length is the highest number of children at one time.
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

    /// Changes the record if there is one. In place, which optional chaining through the subscript would not be.
    @discardableResult
    mutating func update<Result>(_ slot: SupervisorCore.Slot, _ body: (inout ChildRecord) -> Result) -> Result? {
        guard childRecords.indices.contains(slot) else { return nil }
        return childRecords[slot].update(body)
    }
}
