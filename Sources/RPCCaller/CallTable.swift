import AMQPPool
import Logging
import NIOCore
import RPCWire
import Supervision
import Synchronization

/// The calls of one incarnation of a caller, shared by every thread that calls and every event loop that answers.
///
/// The decisions are those of ``PendingTable`` and ``ReplyQueueState``, both behind one lock: so a call that is handed to a channel
/// has the name of a reply queue that was alive at that moment, and the loss of the queue finds either the call or nothing of it.
/// What follows from a decision is done outside the lock.
final class CallTable: Sendable {
    struct State {
        var pending: PendingTable<PendingCall>
        var replyQueue: ReplyQueueState<ObjectIdentifier>
        var channels: [ObjectIdentifier: AttachedChannel] = [:]
        var isPumping = false
        var pump: Task<Void, Never>?

        /// Whether what stands in line could be sent, were there a channel.
        var wantsChannel: Bool { pending.hasLine && replyQueue.isConsumed }
    }

    struct AttachedChannel {
        let channel: AMQPChannel
        /// Its consumer of the reply queue, current or not.
        var tag: String?
    }

    let state: Mutex<State>
    let counters: CallerCounters
    let abandoned: AbandonedQueues
    let settings: Settings
    let logger: Logger
    /// Why the last channel that was connected could not be made ready, if it could not.
    let obstacle = Mutex<String?>(nil)
    private let registry: ChannelRegistry
    private let eventLoop: any EventLoop
    private let timer = Mutex<DeadlineTimer?>(nil)
    /// The supervisors that this incarnation does not outlive, from the root down; their end explains everything else that
    /// happens then.
    private let foundations = Mutex<[SupervisorReference]>([])

    struct Settings: Sendable {
        var service: String
        var names: RPCNames
        var maximumCallsInFlight: Int
        var replyPrefetch: UInt16
        var replyQueueExpiry: Duration
    }

    init(
        settings: Settings,
        registry: ChannelRegistry,
        counters: CallerCounters,
        abandoned: AbandonedQueues,
        eventLoop: any EventLoop,
        logger: Logger
    ) {
        self.settings = settings
        self.registry = registry
        self.counters = counters
        self.abandoned = abandoned
        self.eventLoop = eventLoop
        self.logger = logger
        let (names, service) = (settings.names, settings.service)
        state = Mutex(
            State(
                pending: PendingTable(limit: settings.maximumCallsInFlight),
                replyQueue: ReplyQueueState { names.replyQueue(of: service, id: RequestID()) }
            )
        )
        let timer = DeadlineTimer(on: eventLoop) { [weak self] in self?.expire() }
        self.timer.withLock { $0 = timer }
    }

    /// How many calls wait.
    var count: Int { state.withLock { $0.pending.count } }

    // MARK: A call begins

    /// Takes a call in and sends it, or lets it wait for a channel.
    func begin(_ call: PendingCall) {
        let channel = registry.pick()
        let now = ContinuousClock.now
        let taken = Result {
            () throws(PendingTable<PendingCall>.Refusal) -> (PendingTable<PendingCall>.Submission, String)? in
            try state.withLock { state throws(PendingTable<PendingCall>.Refusal) in
                try state.pending.begin(call.id, kind: call.kind, call: call, deadline: call.deadline)
                guard channel != nil, state.replyQueue.isConsumed, !state.pending.hasLine else {
                    state.pending.lineUp(call.id)
                    return nil
                }
                return state.pending.take(call.id, now: now).map { ($0, state.replyQueue.name) }
            }
        }
        switch taken {
        case .failure(.closed): return call.end(.notTaken)
        case .failure(.overloaded(let limit)): return call.end(.failed(.overloaded(limit: limit)))
        case .success: break
        }
        timer.withLock { $0 }?.arm(call.deadline)
        // A cancellation before the entry was there found nothing to take out.
        if Task.isCancelled { cancel(call.id) }
        if case .success(let (submission, replyTo)?) = taken, let channel {
            send(submission, replyTo: replyTo, on: channel)
        } else {
            startPump()
        }
    }

    /// Ends a call whose task was cancelled, wherever it is.
    func cancel(_ id: RequestID) {
        state.withLock { $0.pending.remove(id) }?.call.end(.failed(.cancelled))
    }

    // MARK: Sending

    private func send(_ submission: PendingTable<PendingCall>.Submission, replyTo: String, on channel: AMQPChannel) {
        let call = submission.call
        if call.kind == .readiness {
            state.withLock { $0.pending.remove(call.id) }?.call.end(.done)
            return
        }
        let message = call.message(replyTo: replyTo, remaining: submission.remaining)
        channel.submit(
            Publish(
                exchange: settings.names.exchange,
                routingKey: "",
                mandatory: true,
                properties: message.properties,
                body: message.body,
                isWanted: { call.isWanted },
                outcome: { [weak self] in self?.published(call, $0) }
            )
        )
    }

    /// The outcome of a publish, on the event loop.
    private func published(_ call: PendingCall, _ outcome: PublishOutcome) {
        let error: RPCError
        let kept: PendingTable<PendingCall>.Outcome
        switch outcome {
        case .confirmed, .presumedDelivered:
            // The hot path: most calls need no lock for their confirm.
            if call.kind == .call { return }
            if case .ended(let call) = decide(.confirmed, call) { call.end(.done) }
            return
        case .nacked: (kept, error) = (.nacked, .rejectedByBroker)
        case .returned: (kept, error) = (.returned, .unroutable(destination: call.destination))
        case .unknown(let cause):
            logger.debug("a request is in doubt", metadata: ["rpc.id": "\(call.id)", "error": "\(cause)"])
            (kept, error) = (.unknown, .connectionLost(requestMayHaveBeenDelivered: true))
        case .refused(let cause): (kept, error) = (.refused, .invalidRequest("\(cause)"))
        case .notWritten: (kept, error) = (.notWritten, .connectionLost(requestMayHaveBeenDelivered: false))
        }
        switch decide(kept, call) {
        case .none: break
        case .ended(let call): call.end(.failed(error))
        case .sendAgain(let attempts):
            // A channel that is ending refuses at once; the registry learns of its end a moment later.
            let delay: TimeAmount = attempts < 3 ? .zero : .milliseconds(Int64(min(100, 1 << min(attempts, 7))))
            if delay == .zero {
                lineUp(call.id)
            } else {
                eventLoop.scheduleTask(in: delay) { [weak self] in self?.lineUp(call.id) }
            }
        }
    }

    private func decide(
        _ outcome: PendingTable<PendingCall>.Outcome,
        _ call: PendingCall
    ) -> PendingTable<PendingCall>.Decision {
        state.withLock { $0.pending.outcome(outcome, of: call.id) }
    }

    private func lineUp(_ id: RequestID) {
        state.withLock { $0.pending.lineUp(id) }
        serveLine()
    }

    /// Sends what stands in line, as long as there are channels.
    func serveLine(first: AMQPChannel? = nil) {
        var given = first
        while let channel = given ?? registry.pick() {
            given = nil
            let next = state.withLock { state -> (PendingTable<PendingCall>.Submission, String)? in
                guard state.replyQueue.isConsumed else { return nil }
                return state.pending.takeFirstInLine(now: ContinuousClock.now).map { ($0, state.replyQueue.name) }
            }
            guard let (submission, replyTo) = next else { return }
            send(submission, replyTo: replyTo, on: channel)
        }
        startPump()
    }

    /// Waits for a channel on behalf of everything in line: one task, however many wait.
    private func startPump() {
        state.withLock { state in
            guard !state.isPumping, state.wantsChannel else { return }
            state.isPumping = true
            // Detached: it must not inherit the priority, the cancellation or the locals of a call.
            state.pump = Task.detached { [weak self, registry] in
                while !Task.isCancelled {
                    let channel = try? await registry.next(before: .now + .seconds(60))
                    guard let self else { return }
                    if let channel { serveLine(first: channel) }
                    if stopPumpIfDone() { return }
                }
            }
        }
    }

    private func stopPumpIfDone() -> Bool {
        state.withLock { state in
            if state.wantsChannel { return false }
            state.isPumping = false
            return true
        }
    }

    // MARK: Answers

    /// A reply, on the event loop.
    func replied(_ delivery: Delivery) {
        let reply = ReplyMessage(properties: delivery.properties, body: delivery.body)
        guard let id = reply.correlationID.flatMap(RequestID.init),
            let ending = state.withLock({ $0.pending.reply(to: id) })
        else {
            counters.unmatchedReply()
            return
        }
        ending.call.end(.reply(reply))
    }

    // MARK: Deadlines

    private func expire() {
        let (expired, next) = state.withLock { state in
            let expired = state.pending.expire(at: ContinuousClock.now)
            return (expired, state.pending.earliestDeadline)
        }
        if let next { timer.withLock { $0 }?.arm(next) }
        var unsent: [PendingCall] = []
        for ending in expired {
            if ending.wasSubmitted { ending.call.end(.failed(.timeout)) } else { unsent.append(ending.call) }
        }
        guard !unsent.isEmpty else { return }
        Task.detached { [self, unsent] in
            let why = await whyNotReady()
            for call in unsent { call.end(.failed(why)) }
        }
    }

    /// What keeps calls from being sent, in the words of whoever knows.
    private func whyNotReady() async -> RPCError {
        do throws(AMQPError) {
            _ = try await registry.next(before: .now)
            return .notConnected(why: "the reply queue is not consumed yet")
        } catch {
            return RPCError(notReady: error, obstacle: obstacle.withLock { $0 })
        }
    }

    // MARK: The end

    /// A supervisor without which this incarnation ends: when it does, every waiting call is told why at once, before anything
    /// that follows from it (closing channels, a lost reply queue) is taken for the cause.
    func rests(on supervisor: SupervisorReference) {
        let isNew = foundations.withLock { supervisors in
            guard !supervisors.contains(where: { $0.pid == supervisor.pid }) else { return false }
            supervisors.append(supervisor)
            return true
        }
        if isNew { supervisor.pid.onExit { [weak self] in self?.close($0) } }
    }

    /// Ends every call, and takes no more in.
    func close(_ reason: ExitReason) {
        let (endings, pump) = state.withLock { state in
            defer { state.pump = nil }
            if !state.pending.isClosed { abandoned.add(state.replyQueue.name) }
            return (state.pending.close(reason), state.pump)
        }
        pump?.cancel()
        timer.withLock { timer in
            timer?.cancel()
            timer = nil
        }
        for ending in endings { ending.call.end(.failed(.callerRestarted(reason))) }
    }

    /// Ends every call if a supervisor that this incarnation rests on has ended or is about to.
    func closeIfUnfounded() {
        let reason = foundations.withLock { $0.lazy.compactMap(\.endingReason).first }
        if let reason { close(reason) }
    }
}
