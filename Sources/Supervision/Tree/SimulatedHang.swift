import ConcurrencyPrimitives

/// A simulated hang of one incarnation, for ``TreeTesting``: stops and cancellations do not reach it, and its exit is withheld from its
/// supervisor, which has to abandon it. Nothing is blocked.
///
/// While it hangs, the incarnation passes its inputs to its ladder through this value.
struct SimulatedHang: Sendable {
    private let isWorker: Bool
    private var task: LaunchedTask?
    private var isAskedToStop = false
    private var isCancelled = false
    private var withheldEnd: ShutdownLadder.Input?

    /// Begins the hang; `nil` if the incarnation is not running. An actor without `run()` hangs as if an action of one of its timers did
    /// not return.
    init?(_ ladder: inout ShutdownLadder, _ task: inout LaunchedTask?) {
        guard case .running = ladder.step else { return nil }
        isWorker = ladder.isTaskRunning
        guard isWorker || ladder.beginAction() else { return nil }
        self.task = task.take()
    }

    /// Passes an input on to the ladder, and returns those of its actions that are not withheld.
    mutating func handle(
        _ input: ShutdownLadder.Input,
        on ladder: inout ShutdownLadder,
        observesStop: Bool,
        at now: Duration
    ) -> [ShutdownLadder.Action] {
        if case .taskEnded = input {
            withheldEnd = input
            return []
        }
        var actions: [ShutdownLadder.Action] = []
        for action in ladder.handle(input, observesStop: observesStop, at: now) {
            switch action {
            case .requestStop: isAskedToStop = true
            case .cancelTask: isCancelled = true
            case .runHook, .runTerminate, .setTimer, .cancelTimer, .markEnding, .abandon, .announceStarted,
                .announceIgnored, .announceStartFailed, .announceExit:
                actions.append(action)
            }
        }
        return actions
    }

    /// Ends the hang: delivers what was withheld from the incarnation.
    ///
    /// - Returns: Its task, whether that is cancelled now, and what was withheld from its supervisor.
    func release(_ stopLatch: Latch?) -> (task: LaunchedTask?, isCancelled: Bool, end: ShutdownLadder.Input?) {
        if isAskedToStop { stopLatch?.open() }
        if isCancelled { task?.cancel() }
        return (task, isCancelled, isWorker ? withheldEnd : .actionEnded(nil))
    }
}
