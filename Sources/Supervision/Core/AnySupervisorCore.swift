/// The core of a supervisor of either kind, for the one shell that serves both.
struct AnySupervisorCore: Sendable {
    // Exactly one is set. Two optionals and not an enum, so that the core is changed in place and never copied.
    private var ordered: SupervisorCore?
    private var dynamic: DynamicCore?

    init(_ core: SupervisorCore) {
        ordered = core
    }

    init(_ core: DynamicCore) {
        dynamic = core
    }

    /// Appends what is to be done to `effects`.
    mutating func handle(_ event: SupervisorCore.Event, at now: Duration, _ effects: inout [SupervisorCore.Effect]) {
        if ordered?.handle(event, at: now, &effects) == nil { dynamic?.handle(event, at: now, &effects) }
    }

    var activity: SupervisorCore.Activity { ordered?.activity ?? dynamic?.activity ?? .idle }

    var phase: SupervisorCore.Phase { ordered?.phase ?? dynamic?.phase ?? .finished }

    /// How many restarts count for the intensity now.
    func restartsInWindow(at now: Duration) -> Int {
        (ordered?.window ?? dynamic?.window)?.count(at: now) ?? 0
    }

    /// In start order, where there is one.
    var slots: [SupervisorCore.Slot] { ordered?.children.slots() ?? dynamic?.slots ?? [] }

    /// Whether a child without a process will be started together with another.
    func isAboutToStart(_ slot: SupervisorCore.Slot) -> Bool { ordered?.isAboutToStart(slot) ?? false }

    func slot(of id: String) -> SupervisorCore.Slot? { ordered?.children.slot(of: id) }

    func record(_ slot: SupervisorCore.Slot) -> SupervisorCore.Record? { ordered?.children[slot] ?? dynamic?[slot] }

    /// How many incarnations of a child followed another.
    func restarts(_ slot: SupervisorCore.Slot) -> Int { record(slot)?.restarts ?? 0 }

    /// Why the supervisor is on its way out, `nil` while it is not.
    var endingReason: ExitReason? {
        switch phase {
        case .killing: .killed
        case .stopping: ordered?.endingReason ?? .shutdown()
        case .initial, .booting, .running, .finished: nil
        }
    }
}
