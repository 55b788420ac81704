import AMQPPool
import ConcurrencyPrimitives
import Logging
import NIOCore
import RPCWire
import Supervision
import Synchronization

/// The calls of one incarnation of a caller, shared by all calling threads and all event loops that deliver replies.
///
/// Decisions are made by ``PendingTable`` and ``ReplyQueueState``, both behind one lock: a call that is passed to a channel therefore
/// carries the name of a reply queue that was alive at that moment, and the loss of the queue either covers the call completely or not at
/// all. Actions are performed outside the lock.
final class CallTable: Sendable {
    struct State {
        var pending: PendingTable<PendingCall>
        let replies: RPCReplies
        var replyQueue: ReplyQueueState<ObjectIdentifier>
        var channels: [ObjectIdentifier: AttachedChannel] = [:]
        var lastChannel: UInt32 = 0
        var isWaitingForChannel = false
        var channelWaiter: Task<Void, Never>?

        /// Whether a reply to a request sent now would arrive.
        var canBeAnswered: Bool {
            switch replies {
            case .queue: replyQueue.isConsumed
            case .direct: true
            }
        }

        /// Whether the wait queue could be sent if there were a channel.
        var wantsChannel: Bool { pending.hasQueued && canBeAnswered }
    }

    struct AttachedChannel {
        let channel: AMQPChannel
        /// Identifies it among all channels of this table.
        let number: UInt32
        /// Its consumer of the reply queue, current or not.
        var tag: String?
    }

    let state: Mutex<State>
    let counters: CallerCounters
    let abandoned: AbandonedQueues
    let served = ServedDestinations()
    let brokerLimit: BrokerMessageLimit
    let settings: Settings
    let logger: Logger
    /// Opens when no calls wait any more, after draining has begun.
    let drained = OneShot<Void>()
    let changed: @Sendable () -> Void
    /// Why the last connected channel could not be set up, if it could not.
    let setUpFailure = Mutex<String?>(nil)
    let registry: ChannelRegistry
    let eventLoop: any EventLoop
    private let timer = Mutex<DeadlineTimer?>(nil)
    /// The supervisors that this incarnation ends with, from the root down; their end is the cause of everything else that happens then.
    private let dependencies = Mutex<[SupervisorReference]>([])

    struct Settings: Sendable {
        var service: String
        var names: RPCNames
        var maximumCallsInFlight: Int
        var maximumCallsWaiting: Int
        var replies: RPCReplies
        var confirms: Bool
        var replyPrefetch: UInt16
        var replyQueueExpiry: Duration
        var bounceExchange: String?
    }

    init(
        settings: Settings,
        registry: ChannelRegistry,
        counters: CallerCounters,
        abandoned: AbandonedQueues,
        brokerLimit: BrokerMessageLimit,
        eventLoop: any EventLoop,
        logger: Logger,
        changed: @escaping @Sendable () -> Void
    ) {
        self.changed = changed
        self.settings = settings
        self.registry = registry
        self.counters = counters
        self.abandoned = abandoned
        self.brokerLimit = brokerLimit
        self.eventLoop = eventLoop
        self.logger = logger
        let (names, service) = (settings.names, settings.service)
        state = Mutex(
            State(
                pending: PendingTable(
                    limit: settings.maximumCallsInFlight,
                    overflow: settings.maximumCallsWaiting
                ),
                replies: settings.replies,
                replyQueue: ReplyQueueState { names.replyQueue(of: service, id: RequestID()) }
            )
        )
        let timer = DeadlineTimer(on: eventLoop) { [weak self] in self?.expire() }
        self.timer.withLock { $0 = timer }
    }

    /// The number of waiting calls.
    var count: Int { state.withLock { $0.pending.count } }

    // MARK: Beginning a call

    /// Accepts a call and sends it, or lets it wait for a channel.
    func begin(_ call: PendingCall) {
        let channel = registry.pick()
        let now = CompactInstant.now
        let taken = Result { () throws(PendingTable<PendingCall>.Refusal) -> Taken? in
            try state.withLock { state throws(PendingTable<PendingCall>.Refusal) in
                let way = channel.flatMap { state.route(through: $0) }
                let submission = try state.pending.begin(
                    call.id,
                    kind: call.kind,
                    call: call,
                    deadline: call.deadline,
                    retries: call.options.retry.retries,
                    route: way?.route,
                    now: now
                )
                guard let submission, let way else { return nil }
                return Taken(submission: submission, replyTo: way.replyTo)
            }
        }
        switch taken {
        case .failure(.closed): return call.end(.notAccepted)
        case .failure(.draining): return call.end(refusal)
        case .failure(.overloaded(let limit)): return call.end(.failed(.overloaded(limit: limit)))
        case .success: break
        }
        timer.withLock { $0 }?.arm(call.deadline)
        // A cancellation before the entry existed found nothing to remove.
        if Task.isCancelled { cancel(call.id) }
        if case .success(let taken?) = taken, let channel {
            send(taken, on: channel)
        } else {
            startWaitingForChannel()
        }
    }

    /// Ends a call whose task was cancelled, in whatever phase it is.
    func cancel(_ id: RequestID) {
        guard let ending = release({ $0.pending.remove(id) }) else { return }
        ending.call.fail(inDoubt: ending.doubt != nil) { .cancelled(requestMayHaveBeenDelivered: $0) }
    }

    /// Removes entries under the lock, and then sends calls that can be sent because of that.
    func release<Released>(_ body: (inout State) -> Released) -> Released {
        let (released, mayServe, isDrained) = state.withLock { state in
            let released = body(&state)
            return (
                released,
                settings.maximumCallsWaiting > 0 && state.wantsChannel,
                state.pending.isDraining && state.pending.count == 0
            )
        }
        if mayServe { sendQueued() }
        if isDrained { drained.set(()) }
        return released
    }

    // MARK: Answers

    /// Handles a reply, on the event loop.
    func replied(_ delivery: Delivery) {
        let reply = ReplyMessage(properties: delivery.properties, body: delivery.body)
        let id = reply.correlationID.flatMap(RequestID.init)
        guard let id, let ending = release({ $0.pending.reply(to: id) }) else {
            counters.unmatchedReply(hasID: id != nil)
            return
        }
        ending.call.end(.reply(reply))
    }

    // MARK: Deadlines

    private func expire() {
        let (expired, wasFull, next) = release { state in
            let wasFull = state.pending.isFull
            let expired = state.pending.expire(at: CompactInstant.now)
            return (expired, wasFull, state.pending.earliestDeadline)
        }
        if let next { timer.withLock { $0 }?.arm(next) }
        var unsent: [PendingTable<PendingCall>.Ending] = []
        for ending in expired {
            if ending.doubt != nil || ending.call.isWritten {
                ending.call.end(.failed(.timeout(requestMayHaveBeenDelivered: true)))
            } else if wasFull {
                ending.call.end(.failed(.overloaded(limit: settings.maximumCallsInFlight)))
            } else {
                unsent.append(ending)
            }
        }
        guard !unsent.isEmpty else { return }
        // Not awaited: only the calls that it ends depend on it, and it does not block.
        Task.detached { [self, unsent] in
            let why = await whyNotReady()
            for ending in unsent {
                // Until now its message could still have been written.
                ending.call.fail(inDoubt: false) { mayHaveBeenDelivered in
                    guard !mayHaveBeenDelivered, let why else {
                        return .timeout(requestMayHaveBeenDelivered: mayHaveBeenDelivered)
                    }
                    return why
                }
            }
        }
    }

    /// Why calls cannot be sent, `nil` if they can.
    private func whyNotReady() async -> RPCError? {
        do throws(AMQPError) {
            _ = try await registry.next(before: .now)
            let canBeAnswered = state.withLock { $0.canBeAnswered }
            return canBeAnswered ? nil : .notConnected(why: "the reply queue is not consumed yet")
        } catch {
            return RPCError(notReady: error, setUpFailure: setUpFailure.withLock { $0 })
        }
    }

    // MARK: End

    /// Registers a supervisor that this incarnation ends with: when it ends, every waiting call is failed with that reason immediately,
    /// before consequences (closing channels, a lost reply queue) are mistaken for the cause.
    func depends(on supervisor: SupervisorReference) {
        let isNew = dependencies.withLock { supervisors in
            guard !supervisors.contains(where: { $0.pid == supervisor.pid }) else { return false }
            supervisors.append(supervisor)
            return true
        }
        if isNew { supervisor.pid.onExit { [weak self] in self?.close($0) } }
    }

    /// Ends every call, and accepts no more.
    func close(_ reason: ExitReason) {
        let (endings, channelWaiter) = state.withLock { state in
            defer { state.channelWaiter = nil }
            if !state.pending.isClosed {
                switch state.replies {
                case .queue: abandoned.add(state.replyQueue.name)
                case .direct: break
                }
            }
            return (state.pending.close(), state.channelWaiter)
        }
        channelWaiter?.cancel()
        timer.withLock { timer in
            timer?.cancel()
            timer = nil
        }
        drained.set(())
        for ending in endings {
            ending.call.end(restarted: reason, inDoubt: ending.doubt != nil, retriesLeft: ending.retriesLeft)
        }
    }

    /// Ends every call if a supervisor that this incarnation depends on has ended or is shutting down.
    func closeIfDependencyEnded() {
        let reason = dependencies.withLock { $0.lazy.compactMap(\.endingReason).first }
        if let reason { close(reason) }
    }

    /// How a call ends that arrives while earlier ones are being drained. If only the caller ends, inside a larger tree, it is restarted,
    /// and the call waits for that, within its deadline.
    private var refusal: PendingCall.Ending {
        var above = dependencies.withLock { $0.first }?.parent
        guard above != nil else { return .failed(.stopping) }
        while let supervisor = above {
            if supervisor.endingReason != nil { return .failed(.stopping) }
            above = supervisor.parent
        }
        return .notAccepted
    }

    /// Called when a channel is about to be closed because its process is stopped. If the whole caller is stopping, no new calls are
    /// accepted, and waiting ones may complete until the deadline. If only a part of the tree is restarting, there is nothing to wait for.
    func drain(_ channel: AMQPChannel, within timeout: Duration) async {
        guard case .shutdown(cause: nil)? = dependencies.withLock({ $0.first?.endingReason }) else { return }
        for ending in release({ $0.pending.drain() }) { ending.call.end(refusal) }
        changed()
        if await drained.wait(atMost: timeout) == nil {
            logger.warning("calls did not end in time", metadata: ["calls": "\(count)"])
        }
        closeIfDependencyEnded()
        await abandonReplyQueue(of: channel)
    }
}
