import DequeModule
import Dispatch
import Synchronization

/// Starts the library's own work on the cooperative pool, and moves it to a dedicated thread when the pool does not make progress.
///
/// A child that blocks its thread takes that thread from the pool; when all are blocked no task begins any more, and a start closure or
/// kill hook would wait forever. When the pool has begun no task for ``maximumWait``, the rescue thread begins the work that has waited
/// longer than that. A pool that is merely busy keeps beginning tasks, and is left alone. Only work started by the library is rescued, and
/// only until its closure ends: a worker's `run()` always runs on the pool.
enum PoolWatch {
    /// How long a task may wait while the pool begins no task.
    static let maximumWait = Duration.milliseconds(20)

    private struct State {
        var waiting = Deque<(task: LaunchedTask, since: Duration)>()
        var isScheduled = false
        var begunAtLastCheck: UInt64 = 0
    }

    /// The number of tasks that the pool has begun.
    fileprivate static let begun = Atomic<UInt64>(0)

    private static let state = Mutex(State())

    /// Runs `body` in a detached task.
    static func launch(_ body: @escaping @Sendable () async -> Void) {
        launch(LaunchedClosure(body: body))
    }

    /// Runs `work` in a detached task.
    @discardableResult
    static func launch(_ work: any Launchable) -> LaunchedTask {
        let launched = LaunchedTask(work)
        launched.begin(isRescue: false)
        let now = SystemSupervisionClock.shared.now
        let schedules = state.withLock { state in
            state.waiting.append((launched, now))
            guard !state.isScheduled else { return false }
            state.isScheduled = true
            state.begunAtLastCheck = begun.load(ordering: .relaxed)
            return true
        }
        if schedules { scheduleCheck() }
        return launched
    }

    private static func scheduleCheck() {
        _ = SystemSupervisionClock.shared.schedule(after: maximumWait) { check() }
    }

    private static func check() {
        let limit = SystemSupervisionClock.shared.now - maximumWait
        let (late, again) = state.withLock { state -> ([LaunchedTask], Bool) in
            let begun = begun.load(ordering: .relaxed)
            let isStuck = begun == state.begunAtLastCheck
            state.begunAtLastCheck = begun
            var late: [LaunchedTask] = []
            while let first = state.waiting.first, first.task.hasBegun || isStuck && first.since <= limit {
                if !first.task.hasBegun { late.append(first.task) }
                state.waiting.removeFirst()
            }
            state.isScheduled = !state.waiting.isEmpty
            return (late, state.isScheduled)
        }
        for task in late { task.begin(isRescue: true) }
        if again { scheduleCheck() }
    }
}

/// Work for ``PoolWatch`` to launch.
protocol Launchable: AnyObject, Sendable {
    /// Begins the work, on the pool, the rescue thread or a ``WaitingThread``. Returns whether there is more to do.
    nonisolated(nonsending) func begin() async -> Bool
    /// Does the rest of the work, on the pool.
    @concurrent
    func resume() async
}

private final class LaunchedClosure: Launchable {
    private let body: @Sendable () async -> Void

    init(body: @escaping @Sendable () async -> Void) {
        self.body = body
    }

    nonisolated(nonsending) func begin() async -> Bool {
        await body()
        return false
    }

    @concurrent
    func resume() async {}
}

/// Work that runs once, for the first thread that claims it, and can be cancelled wherever it runs.
final class LaunchedTask: Sendable {
    private struct State {
        var work: (any Launchable)?
        var task: Task<Void, Never>?
        /// Tasks after the first: a rescue, or the continuation.
        var moreTasks: [Task<Void, Never>] = []
        var isCancelled = false
        var isReleased = false
        /// The task that begins the work on this thread, until ``task`` is known.
        var beginning: BeginningTask?
        /// The threads that are cancelling ``beginning``, and the task that must outlive that.
        var cancelling = 0
        var outliving: Task<Void, Never>?
    }

    private let state: Mutex<State>

    init(_ work: any Launchable) {
        state = Mutex(State(work: work))
    }

    var hasBegun: Bool { state.withLock { $0.work == nil } }

    // Detached: the library's tasks must not inherit the task-local values of the current thread's caller, above all the graceful-shutdown
    // signal of a surrounding service group, which would stop all children at once instead of in order.
    func begin(isRescue: Bool) {
        if isRescue {
            add(
                Task.detached(executorPreference: RescueExecutor.shared) {
                    guard let work = await self.claim() else { return }
                    self.add(Task.detached { await work.resume() })
                }
            )
        } else {
            add(
                Task.detached {
                    PoolWatch.begun.add(1, ordering: .relaxed)
                    await self.claim()?.resume()
                }
            )
        }
    }

    /// Begins the work on this thread. What follows its first suspension runs on the pool.
    @available(macOS 26, iOS 26, tvOS 26, watchOS 26, visionOS 26, *)
    func beginHere() {
        let task = Task<Void, Never>.immediateDetached {
            guard let work = await self.claimHere() else { return }
            // A task that waits for long holds no memory of the start closure's calls.
            self.replaceTask(Task.detached { await work.resume() })
        }
        let isCancelled = state.withLock { state in
            state.beginning = nil
            if state.cancelling > 0 { state.outliving = task }
            if !state.isReleased, state.task == nil { state.task = task }
            return state.isCancelled
        }
        if isCancelled { task.cancel() }
    }

    private func replaceTask(_ task: Task<Void, Never>) {
        let isCancelled = state.withLock { state in
            if !state.isReleased { state.task = task }
            return state.isCancelled
        }
        if isCancelled { task.cancel() }
    }

    /// Begins the work in the current task, which ``cancel()`` reaches before its handle is known: a closure that is never suspended can be
    /// cancelled too. Returns the work if there is more to do.
    nonisolated(nonsending) private func claimHere() async -> (any Launchable)? {
        let task = withUnsafeCurrentTask { $0.map(BeginningTask.init) }
        let (work, isCancelled) = state.withLock { state in
            state.beginning = task
            return (state.work.take(), state.isCancelled)
        }
        if isCancelled { task?.cancel() }
        guard let work, await work.begin() else { return nil }
        return work
    }

    /// Begins the work, unless it has already been claimed. Returns it if there is more to do.
    private func claim() async -> (any Launchable)? {
        guard let work = state.withLock({ $0.work.take() }), await work.begin() else { return nil }
        return work
    }

    func cancel() {
        let (task, moreTasks, beginning) = state.withLock { state in
            state.isCancelled = true
            if state.beginning != nil { state.cancelling += 1 }
            return (state.task, state.moreTasks, state.beginning)
        }
        task?.cancel()
        for task in moreTasks { task.cancel() }
        guard let beginning else { return }
        // Valid: `beginHere()` holds the task until it is no longer `beginning`, and then keeps it while `cancelling` is not zero.
        beginning.cancel()
        let outliving = state.withLock { state -> Task<Void, Never>? in
            state.cancelling -= 1
            return state.cancelling == 0 ? state.outliving.take() : nil
        }
        withExtendedLifetime(outliving) {}
    }

    /// Releases the tasks once there is nothing left to cancel.
    func release() {
        state.withLock { state in
            state.isReleased = true
            state.task = nil
            state.moreTasks = []
        }
    }

    private func add(_ task: Task<Void, Never>) {
        let isCancelled = state.withLock { state in
            if !state.isReleased {
                if state.task == nil { state.task = task } else { state.moreTasks.append(task) }
            }
            return state.isCancelled
        }
        if isCancelled { task.cancel() }
    }
}

/// A task whose handle is not known yet.
private struct BeginningTask: @unchecked Sendable {
    private let task: UnsafeCurrentTask

    init(_ task: UnsafeCurrentTask) {
        self.task = task
    }

    /// May be called by any thread while the task exists.
    func cancel() {
        task.cancel()
    }
}

/// A single thread outside the cooperative pool.
final class RescueExecutor: TaskExecutor {
    static let shared = RescueExecutor()

    private let queue = DispatchQueue(label: "supervision.rescue", qos: .userInitiated)

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        let executor = asUnownedTaskExecutor()
        queue.async { job.runSynchronously(on: executor) }
    }
}
