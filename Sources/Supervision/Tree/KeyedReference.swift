import ConcurrencyPrimitives

/// The process of one key under a ``KeyedSupervisor``: it stays valid as long as the supervisor does, whatever happens to the process.
public struct KeyedReference<Key: Hashable & Sendable, A: Actor>: Sendable {
    /// The key.
    public let key: Key
    let partition: KeyedPartition<Key, A>

    /// How often a call looks for a new process when the previous one ended before the body began.
    private static var attempts: Int { 3 }

    /// The names from the tree's root down, separated by `/`; the last one is the key's label. The same for every process of the key.
    /// Before the tree runs, it begins with the keyed supervisor's name.
    public var path: String { partition.path(of: key) }

    /// The current incarnation of the key's process, `nil` when there is none. Does not start a process, and does not count as a use.
    public var pid: Pid? { partition.child(of: key).map { Pid(process: $0.process) } }

    /// Runs `body` on the key's process, starting the process if necessary.
    ///
    /// It behaves like ``ChildReference/call(timeout:whileRestarting:_:)``, with the same checks before and after the body. Until the call
    /// has ended, the process is not ended as idle. If the process is being stopped, the call waits and runs on the next one.
    ///
    /// - Parameters:
    ///   - timeout: The time limit for finding, starting, waiting and the body together.
    ///   - whileRestarting: What to do while the process is being restarted. A first start is always waited for.
    ///   - body: The work, which runs on the actor. It is called at most once.
    /// - Throws: ``CallError``; `CancellationError`; or what the body throws. ``CallError/startFailed(child:_:)`` when the start failed,
    ///   for every call that waited for it; the next call tries again. ``CallError/tooManyProcesses(child:limit:)`` at the limit.
    ///   ``CallError/noProcess(child:)`` when the supervisor is not running or is shutting down, and when the start closure returned `nil`.
    public func call<R: Sendable>(
        timeout: Duration = .seconds(5),
        whileRestarting: WhileRestarting = .wait,
        _ body: @escaping @Sendable (isolated A) async throws -> R
    ) async throws -> R {
        try await withProcess(timeout, whileRestarting) { reference, child, left in
            try await reference.attempt(child, timeout: timeout, until: left, isLeased: true, body)
        }
    }

    /// Returns the key's process, starting it if necessary. Counts as a use.
    ///
    /// - Returns: Its current incarnation, which may end at any time: to call it, use ``call(timeout:whileRestarting:_:)``.
    /// - Throws: The same errors as ``call(timeout:whileRestarting:_:)``.
    @discardableResult
    public func findOrStart(timeout: Duration = .seconds(5)) async throws -> Pid {
        if let running = partition.touch(key) { return Pid(process: running.process) }
        return try await withProcess(timeout, .wait) { _, child, _ in .result(.success(Pid(process: child.process))) }
    }

    /// Stops the key's process after the calls that are under way, and returns when it has ended; immediately when there is none. Calls
    /// that arrive in the meantime wait and get a new process. A process must not await this in one of its own calls, because it would wait
    /// for itself: it ends itself by ``Pid/exit(_:)``.
    ///
    /// - Throws: `CancellationError` when the calling task is cancelled; the process ends nevertheless.
    public func stop() async throws {
        try await partition.stop(key)
    }

    private func withProcess<R: Sendable>(
        _ timeout: Duration,
        _ whileRestarting: WhileRestarting,
        _ body: (ChildReference<A>, ChildProcess, _ left: Duration) async throws -> CallAttempt<R>
    ) async throws -> R {
        guard let clock = partition.clock else { throw CallError.noProcess(child: path) }
        let deadline = clock.now + timeout.clamped
        var attempt = 1
        while true {
            let leased = try await partition.lease(key, within: timeout, until: deadline)
            switch try await onProcess(leased, deadline, whileRestarting, body) {
            case .result(let result): return try result.get()
            case .ended(let error, let hasBegun):
                attempt += 1
                guard !hasBegun, attempt <= KeyedReference.attempts else { throw error }
            }
        }
    }

    /// Retries across the restarts of one process until the call is done or the process has ended for good.
    private func onProcess<R: Sendable>(
        _ leased: KeyedPartition<Key, A>.Leased,
        _ deadline: Duration,
        _ whileRestarting: WhileRestarting,
        _ body: (ChildReference<A>, ChildProcess, _ left: Duration) async throws -> CallAttempt<R>
    ) async throws -> CallAttempt<R> {
        defer { partition.release(leased) }
        let reference = ChildReference<A>(address: partition.address(of: key, leased))
        var lastError: CallError?
        while true {
            switch reference.address.lookUp() {
            case .child(let child):
                let left = deadline - child.owner.environment.clock.now
                let attempt = try await body(reference, child, left)
                guard case .ended(let error, hasBegun: false) = attempt else { return attempt }
                lastError = error
            case .restarting(let coming):
                guard whileRestarting == .wait, try await coming.changed(before: deadline) else {
                    throw CallError.restarting(child: reference.path)
                }
            case .supervisor, .none:
                partition.isGone(leased)
                return .ended(lastError ?? .noProcess(child: reference.path), hasBegun: false)
            }
        }
    }
}
