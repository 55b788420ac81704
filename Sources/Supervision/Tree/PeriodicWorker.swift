import ConcurrencyPrimitives
import Logging
import Synchronization

/// A worker that does its work periodically, one run at a time.
///
///     Child("poller") { context in
///         PeriodicWorker(context, every: .seconds(30), jitter: 0.1, backoff: Backoff()) { context in
///             try await refresh()
///         }
///     }
///
///     | work |--- interval ---| work fails |- backoff -| work |--- interval ---| work | ...
///
/// The interval begins when a run has ended, so runs neither overlap nor accumulate, however long one takes. ``runNow()`` starts the next
/// run early. When the worker is asked to stop, the current run may finish within the time that the child's shutdown allows; then it is
/// cancelled.
public actor PeriodicWorker: Worker {
    private let context: ChildContext
    private let stop: StopRequest
    private let interval: Duration
    private let jitter: Double
    private let firstAfter: Duration
    private let backoff: Backoff?
    private let work: @Sendable (ChildContext) async throws -> Void
    /// Wakes the loop early for a request or the stop.
    private nonisolated let bell = Mutex<OneShot<Void>?>(nil)
    /// The callers that asked for a run which has not begun. Each is suspended.
    private var requests: [OneShot<Result<Void, any Error>>] = []
    private var random = SplitMix64(seed: .random(in: .min ... .max))
    private var hasEnded = false
    /// The number of runs that have ended without an error.
    public private(set) var successes = 0
    /// The number of consecutive failed runs, including the last one.
    public private(set) var failuresInARow = 0
    /// The number of callers that wait for a run that has not begun.
    public var waitingRequests: Int { requests.count }

    /// Creates a worker that does `work` periodically.
    ///
    /// - Parameters:
    ///   - context: The context of this worker's child.
    ///   - interval: The time between the end of a run and the beginning of the next; less than a millisecond counts as one.
    ///   - jitter: The random part of the interval, 0 to 1: each wait is shortened by up to that part, so that many workers do not run in
    ///     step.
    ///   - firstAfter: The time before the first run.
    ///   - backoff: How long to wait instead of the interval after a run that failed; the failure is logged as a warning. With `nil` a
    ///     failure crashes the worker, so that its supervisor acts on it.
    ///   - work: One run.
    public init(
        _ context: ChildContext,
        every interval: Duration,
        jitter: Double = 0,
        firstAfter: Duration = .zero,
        backoff: Backoff? = nil,
        _ work: @escaping @Sendable (ChildContext) async throws -> Void
    ) {
        self.context = context
        stop = context.stopRequest
        self.interval = max(interval.clamped, .milliseconds(1))
        self.jitter = jitter.isFinite ? min(max(jitter, 0), 1) : 0
        self.firstAfter = firstAfter.clamped
        self.backoff = backoff
        self.work = work
    }

    /// Does the work until it is asked to stop.
    ///
    /// - Throws: Without a backoff, what a run threw; ``SupervisionError/invalidSpecification(_:)`` when the backoff is invalid.
    public func run() async throws {
        if let problem = backoff?.problem { throw SupervisionError.invalidSpecification(problem) }
        defer {
            hasEnded = true
            for request in requests { request.set(.failure(CancellationError())) }
            requests = []
        }
        stop.onRequest { [weak self] in self?.ring() }
        var delay = firstAfter
        while true {
            try await wait(delay)
            guard !stop.isRequested else { return }
            let asking = requests
            requests = []
            do {
                try await work(context)
                successes += 1
                failuresInARow = 0
                delay = interval.scaled(by: 1 - jitter * random.unit())
                for request in asking { request.set(.success(())) }
            } catch {
                for request in asking { request.set(.failure(error)) }
                guard let backoff, !Task.isCancelled else { throw error }
                failuresInARow += 1
                delay = backoff.delay(afterFailures: failuresInARow, random: random.unit())
                context.logger.warning(
                    "a periodic run failed, next run in \(delay.clamped)",
                    metadata: ["supervision.reason": "\(error)"]
                )
            }
        }
    }

    /// Runs the work now, and returns when that run has ended. If a run is under way, another one follows immediately. All requests made
    /// before a run begins share that run. The interval starts again after it.
    ///
    /// - Throws: What the run threw; `CancellationError` when the calling task is cancelled (the run goes on) or the worker ends.
    public func runNow() async throws {
        guard !hasEnded else { throw CancellationError() }
        let request = OneShot<Result<Void, any Error>>()
        requests.append(request)
        ring()
        try await request.value().get()
    }

    private nonisolated func ring() {
        bell.withLock { $0 }?.set(())
    }

    private func wait(_ delay: Duration) async throws {
        let bell = OneShot<Void>()
        self.bell.withLock { $0 = bell }
        // Checked after the wake-up is removed, so that no request in between is missed.
        guard requests.isEmpty, !stop.isRequested else { return try Task.checkCancellation() }
        let timer = context.child.owner.environment.clock.schedule(after: delay) { bell.set(()) }
        defer { timer.cancel() }
        try await bell.value()
    }
}
