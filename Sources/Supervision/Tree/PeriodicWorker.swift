import ConcurrencyPrimitives
import Logging
import Synchronization

/// The poller that everybody writes: does its work again and again, one run at a time.
///
///     Child("poller") { context in
///         PeriodicWorker(context, every: .seconds(30), jitter: 0.1, backoff: Backoff()) { context in
///             try await refresh()
///         }
///     }
///
///     | work |--- interval ---| work fails |- backoff -| work |--- interval ---| work | ...
///
/// The interval begins when a run has ended, so that runs never overlap and never pile up, however long one takes. The next run
/// can be asked for by hand. When the worker is asked to stop, a run that is under way is let finish, in the time that the
/// child's shutdown allows; then it is cancelled.
public actor PeriodicWorker: Worker {
    private let context: ChildContext
    private let stop: StopRequest
    private let interval: Duration
    private let jitter: Double
    private let firstAfter: Duration
    private let backoff: Backoff?
    private let work: @Sendable (ChildContext) async throws -> Void
    /// What the next run waits for: the time, a request, the stop.
    private nonisolated let bell = Mutex<OneShot<Void>?>(nil)
    /// The callers that asked for a run which has not begun. Each is suspended.
    private var requests: [OneShot<Result<Void, any Error>>] = []
    private var random = SplitMix64(seed: .random(in: .min ... .max))
    private var hasEnded = false
    /// How many runs have ended without an error.
    public private(set) var successes = 0
    /// How many runs in a row have failed, the last one included.
    public private(set) var failuresInARow = 0
    /// How many callers wait for a run that has not begun.
    public var waitingRequests: Int { requests.count }

    /// A worker that does `work` periodically.
    ///
    /// - Parameters:
    ///   - context: That of the child which this worker is.
    ///   - interval: How long to wait between the end of a run and the next; less than a millisecond counts as one.
    ///   - jitter: The part of the interval that is random, 0 to 1: each wait is shortened by up to that part, so that many
    ///     workers do not run in step.
    ///   - firstAfter: How long to wait before the first run.
    ///   - backoff: After a run that failed: how long to wait instead of the interval. The failure is logged as a warning. `nil`
    ///     for a failure to crash the worker, so that its supervisor acts.
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
    /// - Throws: What a run threw, without a backoff; ``SupervisionError/invalidSpecification(_:)`` when the backoff cannot be right.
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

    /// Runs the work now, and returns when that run has ended. While one is under way, another follows at once. However many ask
    /// before it begins, it is one run. The interval begins anew after it.
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
        // Looked at after the bell is hung up, so that nothing rings in between unheard.
        guard requests.isEmpty, !stop.isRequested else { return try Task.checkCancellation() }
        let timer = context.child.owner.environment.clock.schedule(after: delay) { bell.set(()) }
        defer { timer.cancel() }
        try await bell.value()
    }
}
