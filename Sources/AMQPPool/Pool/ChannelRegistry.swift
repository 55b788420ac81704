import Logging
import NIOCore
import Supervision
import Synchronization

/// The ready channels of a pool, for lookup under a lock, without an actor hop.
///
/// A channel is removed as soon as it is closed or its process ends. There is one waiter per call in flight.
package actor ChannelRegistry {
    /// What a connection is needed for.
    enum Use: Sendable {
        case everything
        case consuming
    }

    fileprivate struct State {
        var channels: [AMQPChannel] = []
        var next = 0
        /// Open connections, for dedicated channels.
        var connections: [AMQPConnection] = []
        /// Open connections for consuming only, and the pool's channels on them.
        var consumerConnections: [AMQPConnection] = []
        var consumerChannels: [AMQPChannel] = []
        /// The connections that have been open once.
        var opened: Set<Int> = []
        /// The numbers of their processes.
        var numbers: [ObjectIdentifier: Int] = [:]
        var report = ConnectReport()
        // Not a `Monitor`: channels get ready and blocked without a change of this state, so those who wait look again by themselves,
        // and a connection that comes, goes or is tried must not look on behalf of each of them under the lock of every publish.
        var waiters: [UInt64: CheckedContinuation<Wake, Never>] = [:]
        var lastWaiter: UInt64 = 0
        /// Nothing is added any more.
        var isEnded = false
    }

    fileprivate enum Wake {
        case changed
        case deadline
        case cancelled
    }

    private nonisolated let state = Mutex(State())
    /// The number of connections for publishing: those with higher numbers are for consuming only.
    private nonisolated let publishing: Int
    private nonisolated let hasConsumers: Bool

    /// Called when a channel or connection was added, removed, blocked or unblocked.
    private nonisolated let onChange: @Sendable () -> Void

    /// Why there is no connection, when another pool of this process opens them.
    private nonisolated let lessorsReason: @Sendable () -> AMQPError?

    /// The log of the pool.
    private nonisolated let log: BrokerLog?
    /// The metrics of the connections, if they are opened here.
    private nonisolated let metrics: PoolMetrics?

    init(
        log: BrokerLog? = nil,
        metrics: PoolMetrics? = nil,
        publishing: Int = .max,
        hasConsumers: Bool = false,
        onChange: @escaping @Sendable () -> Void = {},
        lessorsReason: @escaping @Sendable () -> AMQPError? = { nil }
    ) {
        self.log = log
        self.metrics = metrics
        self.publishing = publishing
        self.hasConsumers = hasConsumers
        self.onChange = onChange
        self.lessorsReason = lessorsReason
    }

    // MARK: Lookup

    /// A ready channel: open, on a connection that is not blocked. Round robin.
    package nonisolated func pick() -> AMQPChannel? {
        state.withLock { $0.pick() }
    }

    /// The open connections, blocked or not.
    nonisolated var openConnections: [AMQPConnection] { state.withLock { $0.connections + $0.consumerConnections } }

    /// The state of the pool, derived from its channels.
    package nonisolated var poolState: PoolState {
        let channels = channels
        if channels.contains(where: \.isReady) { return .ready }
        return channels.contains { $0.closedError == nil && $0.connection.isBlocked } ? .blocked : .connecting
    }

    /// All channels, ready or not.
    package nonisolated var channels: [AMQPChannel] { state.withLock { $0.channels } }

    /// The last error at each endpoint since its last success.
    nonisolated var failures: [AMQPError.EndpointFailure] {
        state.withLock { $0.report.failures(at: .now) }
    }

    /// Waits for a ready channel.
    ///
    /// - Throws: At the deadline ``AMQPError/notConnected(_:)``, with the failure at each endpoint, or ``AMQPError/blocked(reason:)``;
    ///   ``AMQPError/poolNotRunning`` when the registry has ended; ``AMQPError/cancelled(operation:)``. Each inside
    ///   ``AMQPError/notSent(_:)``.
    package nonisolated func next(before deadline: ContinuousClock.Instant) async throws(AMQPError) -> AMQPChannel {
        while true {
            if let channel = pick() { return channel }
            if isEnded { throw .notSent(.poolNotRunning) }
            switch await wait(until: deadline, for: { $0.channels.contains(where: \.isReady) }) {
            case .changed: continue
            case .cancelled: throw .notSent(.cancelled(operation: "waiting for a channel"))
            case .deadline:
                if let channel = pick() { return channel }
                throw .notSent(reasonForNone)
            }
        }
    }

    /// Waits for a connection that is open and not blocked, round robin.
    ///
    /// - Throws: The errors of ``next(before:)``.
    nonisolated func nextConnection(
        for use: Use = .everything,
        before deadline: ContinuousClock.Instant
    ) async throws(AMQPError) -> AMQPConnection {
        // If some connections are for consuming only, the others are not used for it.
        let isOfConsumers = use == .consuming && hasConsumers
        while true {
            if let connection = state.withLock({ $0.pickConnection(isOfConsumers) }) { return connection }
            if isEnded { throw .notSent(.poolNotRunning) }
            let isReady: @Sendable (State) -> Bool = { state in
                (isOfConsumers ? state.consumerConnections : state.connections).contains(where: \.isUsable)
            }
            switch await wait(until: deadline, for: isReady) {
            case .changed: continue
            case .cancelled: throw .notSent(.cancelled(operation: "waiting for a connection"))
            case .deadline: throw .notSent(reasonForNone)
            }
        }
    }

    package nonisolated var reasonForNone: AMQPError {
        let (connections, report) = state.withLock { ($0.connections, $0.report.failures(at: .now)) }
        if connections.isEmpty, let reason = lessorsReason() { return reason }
        for connection in connections {
            if let reason = connection.blockedReason { return .blocked(reason: reason) }
        }
        return .notConnected(report)
    }

    private nonisolated func wait(
        until deadline: ContinuousClock.Instant,
        for isReady: @Sendable (State) -> Bool
    ) async -> Wake {
        let id = state.withLock { state in
            state.lastWaiter += 1
            return state.lastWaiter
        }
        let timer = SystemSupervisionClock.shared.schedule(after: ContinuousClock.now.duration(to: deadline)) {
            self.wake(id, .deadline)
        }
        defer { timer.cancel() }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                // Checked under the lock: a channel that becomes ready later wakes the waiter.
                let wake: Wake? = state.withLock { state in
                    if Task.isCancelled { return .cancelled }
                    if ContinuousClock.now >= deadline { return .deadline }
                    if isReady(state) || state.isEnded { return .changed }
                    state.waiters[id] = continuation
                    return nil
                }
                if let wake { continuation.resume(returning: wake) }
            }
        } onCancel: {
            wake(id, .cancelled)
        }
    }

    private nonisolated func wake(_ id: UInt64, _ wake: Wake) {
        state.withLock { $0.waiters.removeValue(forKey: id) }?.resume(returning: wake)
    }

    /// The number of waiters.
    package nonisolated var waiting: Int { state.withLock { $0.waiters.count } }

    // MARK: End

    /// Whether nothing is added any more: ``next(before:)`` throws ``AMQPError/poolNotRunning`` then.
    package nonisolated var isEnded: Bool { state.withLock { $0.isEnded } }

    /// Ends the registry with its process: later channels are added to the registry of the next incarnation, and waiters here would wait in
    /// vain.
    nonisolated func ends(with pid: Pid) {
        pid.onExit { [weak self] _ in
            guard let self else { return }
            state.withLock { $0.isEnded = true }
            readinessChanged()
        }
    }

    // MARK: Reports of the processes

    /// Adds a channel for use, until it is closed or its process ends.
    nonisolated func add(_ channel: AMQPChannel, for pid: Pid) {
        let (isFirst, number) = state.withLock { state in
            let isFirst = !state.hasChannel(on: channel.connection)
            if state.consumerConnections.contains(where: { $0 === channel.connection }) {
                state.consumerChannels.append(channel)
            } else {
                state.channels.append(channel)
            }
            state.report.setUp(channel.connection.endpoint)
            return (isFirst, state.numbers[ObjectIdentifier(channel.connection)])
        }
        if isFirst { log?.up(channel.connection, number: number) }
        metrics?.connected(!channels.isEmpty)
        let atExit = pid.onExit { [weak self, weak channel] _ in
            if let channel { self?.remove(channel) }
        }
        channel.onClosed { [weak self, weak channel] _ in
            // A process outlives channels that the broker closes.
            atExit.cancel()
            if let channel { self?.remove(channel) }
        }
        readinessChanged()
    }

    private nonisolated func remove(_ channel: AMQPChannel) {
        let isLast = state.withLock { state in
            if let index = state.channels.firstIndex(where: { $0 === channel }) {
                state.channels.remove(at: index)
            } else if let index = state.consumerChannels.firstIndex(where: { $0 === channel }) {
                state.consumerChannels.remove(at: index)
            } else {
                return false
            }
            return !state.hasChannel(on: channel.connection)
        }
        if isLast { log?.handle(.down(.init(channel.closedError ?? .channelClosed))) }
        if let metrics { metrics.connected(!channels.isEmpty) }
        onChange()
    }

    /// The readiness of a channel may have changed: wakes the waiters to check.
    nonisolated func readinessChanged() {
        onChange()
        let waiters = state.withLock { state in
            defer { state.waiters = [:] }
            return state.waiters
        }
        for waiter in waiters.values { waiter.resume(returning: .changed) }
    }

    nonisolated func connecting(to endpoint: Endpoint, at now: ContinuousClock.Instant) {
        state.withLock { $0.report.began(endpoint, at: now) }
    }

    /// An attempt to connect has ended; `nil` if this side gave it up.
    nonisolated func ended(
        _ endpoint: Endpoint,
        begun: ContinuousClock.Instant,
        _ result: Result<Void, AMQPError>?
    ) {
        state.withLock { $0.report.ended(endpoint, begun: begun, result) }
    }

    /// Logs a failed attempt.
    nonisolated func attemptFailed(_ number: Int, at endpoint: Endpoint, _ error: AMQPError, retryIn: Duration?) {
        metrics?.connectFailed(error)
        log?.handle(
            .failed(
                number: number,
                place: ["endpoint": "\(endpoint.redacted)"],
                .init(connecting: error),
                retryIn: retryIn
            )
        )
    }

    /// Whether each of these endpoints has failed, and none ever worked.
    nonisolated func hasFailed(at endpoints: [Endpoint]) -> Bool {
        state.withLock { $0.report.hasFailed(at: endpoints) }
    }

    /// A channel was opened but its set-up failed.
    nonisolated func failedToSetUp(_ connection: AMQPConnection, _ error: any Error) {
        let reason = error as? AMQPError ?? .setUpFailed(reason: "it threw \(type(of: error))")
        let number = state.withLock { state in
            state.report.setUpFailed(connection.endpoint, reason)
            return state.numbers[ObjectIdentifier(connection)]
        }
        let failure = BrokerStory.Failure(settingUp: error)
        log?.handle(
            .failed(number: number ?? 0, place: ["endpoint": "\(connection.endpoint.redacted)"], failure, retryIn: nil)
        )
    }

    /// The broker has stopped accepting messages on a connection, or accepts them again.
    nonisolated func blockedChanged() {
        let reason = state.withLock { state -> String? in
            let reasons = state.connections.map(\.blockedReason)
            return reasons.contains(nil) ? nil : reasons.first ?? nil
        }
        log?.handle(.blocked(reason))
        metrics?.blocked(reason != nil)
        readinessChanged()
    }

    nonisolated func connected(_ connection: AMQPConnection, number: Int) {
        let isFirst = state.withLock { state in
            if number > publishing {
                state.consumerConnections.append(connection)
            } else {
                state.connections.append(connection)
            }
            state.numbers[ObjectIdentifier(connection)] = number
            return state.opened.insert(number).inserted
        }
        metrics?.connectionOpened(isFirst: isFirst)
        connection.onClosed { [weak self, weak connection, metrics] _ in
            metrics?.connectionEnded()
            self?.state.withLock { state in
                state.connections.removeAll { $0 === connection }
                state.consumerConnections.removeAll { $0 === connection }
                if let connection { state.numbers[ObjectIdentifier(connection)] = nil }
            }
        }
        readinessChanged()
    }
}

extension ChannelRegistry.State {
    fileprivate mutating func pick() -> AMQPChannel? {
        for _ in channels.indices {
            next = next + 1 < channels.count ? next + 1 : 0
            if channels[next].isReady { return channels[next] }
        }
        return nil
    }

    fileprivate mutating func pickConnection(_ isOfConsumers: Bool) -> AMQPConnection? {
        isOfConsumers ? Self.next(of: &consumerConnections) : Self.next(of: &connections)
    }

    private static func next(of connections: inout [AMQPConnection]) -> AMQPConnection? {
        guard let index = connections.firstIndex(where: \.isUsable) else { return nil }
        let connection = connections.remove(at: index)
        connections.append(connection)
        return connection
    }

    fileprivate func hasChannel(on connection: AMQPConnection) -> Bool {
        channels.contains { $0.connection === connection } || consumerChannels.contains { $0.connection === connection }
    }
}

extension AMQPConnection {
    /// Open, not closing, and not blocked.
    fileprivate nonisolated var isUsable: Bool { !isEnding && !isBlocked }
}
