/// The core of an ordered or a dynamic supervisor, behind one interface for ``SupervisorProcess``.
struct AnySupervisorCore: Sendable {
    // Exactly one is set. Two optionals instead of an enum, so that the core is mutated in place and never copied.
    private var ordered: SupervisorCore?
    private var dynamic: DynamicCore?
    // Kept apart from the cores: reading them through an optional would copy the whole core.
    private(set) var phase = SupervisorCore.Phase.initial
    private(set) var activity = SupervisorCore.Activity.idle

    init(_ core: SupervisorCore) {
        ordered = core
    }

    init(_ core: DynamicCore) {
        dynamic = core
    }

    /// Appends the effects of the event to `effects`.
    ///
    /// - Parameter directly: Whether common cases are decided in one step. A test compares both ways.
    mutating func handle(
        _ event: SupervisorCore.Event,
        at now: Duration,
        directly: Bool,
        _ effects: inout [SupervisorCore.Effect]
    ) {
        let ordered =
            directly ? ordered?.handle(event, at: now, &effects) : ordered?.handleGenerally(event, at: now, &effects)
        guard let state = ordered ?? dynamic?.handle(event, at: now, &effects) else { return }
        phase = state.phase
        activity = state.activity
    }

    /// The number of restarts that count towards the intensity at `now`.
    func restartsInWindow(at now: Duration) -> Int {
        (ordered?.window ?? dynamic?.window)?.count(at: now) ?? 0
    }

    /// The children's slots; in start order for an ordered supervisor.
    var slots: [SupervisorCore.Slot] { ordered?.children.slots() ?? dynamic?.slots ?? [] }

    /// Whether a child without a process will be started as part of a pending or running operation.
    func isAboutToStart(_ slot: SupervisorCore.Slot) -> Bool { ordered?.isAboutToStart(slot) ?? false }

    func slot(of id: String) -> SupervisorCore.Slot? { ordered?.children.slot(of: id) }

    // Mutating, although it changes nothing: a core is then read in place and not copied.
    mutating func record(_ slot: SupervisorCore.Slot) -> SupervisorCore.Record? {
        ordered?.record(slot) ?? dynamic?.record(slot)
    }

    /// How often a child has been restarted.
    mutating func restarts(_ slot: SupervisorCore.Slot) -> Int { record(slot)?.restarts ?? 0 }

    /// The reason the supervisor is shutting down for, `nil` while it is not.
    var endingReason: ExitReason? {
        switch phase {
        case .killing: .killed
        case .stopping: ordered?.endingReason ?? .shutdown()
        case .initial, .booting, .running, .finished: nil
        }
    }
}
