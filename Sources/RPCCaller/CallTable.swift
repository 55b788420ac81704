import AMQPPool
import ConcurrencyPrimitives
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
        let replies: RPCReplies
        var replyQueue: ReplyQueueState<ObjectIdentifier>
        var channels: [ObjectIdentifier: AttachedChannel] = [:]
        var lastChannel: UInt32 = 0
        var isWaitingForChannel = false
        var channelWaiter: Task<Void, Never>?

        /// Whether a reply to what is sent now would reach us.
        var canBeAnswered: Bool {
            switch replies {
            case .queue: replyQueue.isConsumed
            case .direct: true
            }
        }

        /// Whether what stands in line could be sent, were there a channel.
        var wantsChannel: Bool { pending.hasQueued && canBeAnswered }
    }

    struct AttachedChannel {
        let channel: AMQPChannel
        /// Names it among all channels of this table.
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
    /// Open when nothing waits any more, after draining has begun.
    let drained = OneShot<Void>()
    let changed: @Sendable () -> Void
    /// Why the last channel that was connected could not be made ready, if it could not.
    let setUpFailure = Mutex<String?>(nil)
    let registry: ChannelRegistry
    let eventLoop: any EventLoop
    private let timer = Mutex<DeadlineTimer?>(nil)
    /// The supervisors that this incarnation does not outlive, from the root down; their end explains everything else that
    /// happens then.
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

    /// How many calls wait.
    var count: Int { state.withLock { $0.pending.count } }

    // MARK: A call begins

    /// Takes a call in and sends it, or lets it wait for a channel.
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
        // A cancellation before the entry was there found nothing to take out.
        if Task.isCancelled { cancel(call.id) }
        if case .success(let taken?) = taken, let channel {
            send(taken, on: channel)
        } else {
            startWaitingForChannel()
        }
    }

    /// Ends a call whose task was cancelled, wherever it is.
    func cancel(_ id: RequestID) {
        guard let ending = release({ $0.pending.remove(id) }) else { return }
        ending.call.fail(inDoubt: ending.doubt != nil) { .cancelled(requestMayHaveBeenDelivered: $0) }
    }

    /// Lets entries leave under the lock, and then does what becomes possible by that.
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

    /// A reply, on the event loop.
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
        // Those whose calls it ends wait for it, and nobody else: it asks, and waits for nothing.
        Task.detached { [self, unsent] in
            let why = await whyNotReady()
            for ending in unsent {
                // Until now its message may still have been written.
                ending.call.fail(inDoubt: false) { mayHaveBeenDelivered in
                    guard !mayHaveBeenDelivered, let why else {
                        return .timeout(requestMayHaveBeenDelivered: mayHaveBeenDelivered)
                    }
                    return why
                }
            }
        }
    }

    /// What keeps calls from being sent, in the words of whoever knows; `nil`: nothing does.
    private func whyNotReady() async -> RPCError? {
        do throws(AMQPError) {
            _ = try await registry.next(before: .now)
            let canBeAnswered = state.withLock { $0.canBeAnswered }
            return canBeAnswered ? nil : .notConnected(why: "the reply queue is not consumed yet")
        } catch {
            return RPCError(notReady: error, setUpFailure: setUpFailure.withLock { $0 })
        }
    }

    // MARK: The end

    /// A supervisor without which this incarnation ends: when it does, every waiting call is told why at once, before anything
    /// that follows from it (closing channels, a lost reply queue) is taken for the cause.
    func depends(on supervisor: SupervisorReference) {
        let isNew = dependencies.withLock { supervisors in
            guard !supervisors.contains(where: { $0.pid == supervisor.pid }) else { return false }
            supervisors.append(supervisor)
            return true
        }
        if isNew { supervisor.pid.onExit { [weak self] in self?.close($0) } }
    }

    /// Ends every call, and takes no more in.
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

    /// Ends every call if a supervisor that this incarnation rests on has ended or is about to.
    func closeIfDependencyEnded() {
        let reason = dependencies.withLock { $0.lazy.compactMap(\.endingReason).first }
        if let reason { close(reason) }
    }

    /// What a call is told that comes when only those before it are let end. When the caller alone ends, inside a larger tree, it is
    /// started anew, and the call waits for that, within its deadline.
    private var refusal: PendingCall.Ending {
        var above = dependencies.withLock { $0.first }?.parent
        guard above != nil else { return .failed(.stopping) }
        while let supervisor = above {
            if supervisor.endingReason != nil { return .failed(.stopping) }
            above = supervisor.parent
        }
        return .notAccepted
    }

    /// A channel is about to be closed because its process is stopped. When it is because the whole caller is, nothing new is taken
    /// in, and what waits may come to its end, until the deadline. When only a part of the tree is started anew, there is nothing to
    /// wait for.
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
