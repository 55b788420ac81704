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
    private let counters: CallerCounters
    private let abandoned: AbandonedQueues
    let served = ServedDestinations()
    private let brokerLimit: BrokerMessageLimit
    let settings: Settings
    private let logger: Logger
    /// Opens when no calls wait any more, after draining has begun.
    private let drained = OneShot<Void>()
    let changed: @Sendable () -> Void
    /// Why the last connected channel could not be set up, if it could not.
    private let setUpFailure = Mutex<String?>(nil)
    let registry: ChannelRegistry
    private let eventLoop: any EventLoop
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
                let replyRoute = channel.flatMap { state.route(through: $0) }
                let submission = try state.pending.begin(
                    call.id,
                    kind: call.kind,
                    call: call,
                    deadline: call.deadline,
                    retries: call.options.retry.retries,
                    route: replyRoute?.route,
                    now: now
                )
                guard let submission, let replyRoute else { return nil }
                return Taken(submission: submission, replyTo: replyRoute.replyTo)
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
    private func release<Released>(_ body: (inout State) -> Released) -> Released {
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
    private func replied(_ delivery: Delivery) {
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
        let (expired, next) = release { state in
            (state.pending.expire(at: CompactInstant.now) { $0.isWritten }, state.pending.earliestDeadline)
        }
        if let next { timer.withLock { $0 }?.arm(next) }
        var unsent: [PendingTable<PendingCall>.Ending] = []
        for (ending, why) in expired {
            switch why {
            case .unanswered: ending.call.end(.failed(.timeout(requestMayHaveBeenDelivered: true)))
            case .overloaded(let limit): ending.call.end(.failed(.overloaded(limit: limit)))
            case .unsent: unsent.append(ending)
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

/// Sends accepted calls on channels, and handles the outcomes.
extension CallTable {
    /// A call that is to be written now.
    struct Taken {
        let submission: PendingTable<PendingCall>.Submission
        let replyTo: String
    }

    private func send(_ taken: Taken, on channel: AMQPChannel) {
        let call = taken.submission.call
        let attempt = taken.submission.attempt
        if !call.kind.isRequest {
            release { $0.pending.remove(call.id) }?.call.end(.done)
            return
        }
        call.begin(attempt: attempt)
        guard call.request.body.readableBytes <= brokerLimit.bytes else {
            return published(
                call,
                attempt,
                .refused(.messageTooLarge(bytes: call.request.body.readableBytes, limit: brokerLimit.bytes))
            )
        }
        let (exchange, routingKey) =
            switch call.options.queue {
            case nil: (settings.names.exchange, "")
            case let queue?: ("", queue)
            }
        channel.submit(
            Publish(
                exchange: exchange,
                routingKey: routingKey,
                mandatory: true,
                properties: call.properties(replyTo: taken.replyTo, remaining: taken.submission.remaining),
                body: call.request.body,
                observer: call,
                attempt: attempt,
                tellsFailuresOnly: call.kind.awaitsReply
            )
        )
    }

    /// Handles a returned message that waits for no confirm, on the event loop.
    private func returned(_ properties: MessageProperties) {
        guard let id = properties.messageID.flatMap(RequestID.init) else { return }
        let decision = release { $0.pending.returned(id) }
        carryOut(decision, failing: { .unroutable(destination: $0.request.destination) })
    }

    /// Handles the outcome of a publish, on the event loop.
    func published(_ call: PendingCall, _ attempt: Int, _ outcome: PublishOutcome) {
        let error: RPCError
        let kept: PendingTable<PendingCall>.Outcome
        switch outcome {
        case .confirmed, .presumedDelivered, .sent:
            // The hot path: most calls need no lock for their confirm.
            if call.kind.awaitsReply { return }
            if case .ended(let ending) = decide(.confirmed, call, attempt) { ending.call.end(.done) }
            return
        case .nacked: (kept, error) = (.nacked, .rejectedByBroker)
        case .returned: (kept, error) = (.returned, .unroutable(destination: call.request.destination))
        case .unknown(let cause):
            if let limit = brokerLimit.learn(from: cause), call.request.body.readableBytes > limit {
                // The broker closed the channel because of this message.
                let error = AMQPError.messageTooLarge(bytes: call.request.body.readableBytes, limit: limit)
                return published(call, attempt, .refused(error))
            }
            if let text = cause.refusal(
                ofWritingTo: call.options.queue == nil ? settings.names.exchange : "amq.default"
            ) {
                // Permissions are checked when a channel first writes to an exchange, so nothing was routed.
                (kept, error) = (.refused, .accessRefused(text))
                break
            }
            logger.debug(
                "a request is in doubt",
                metadata: [LogKey.messageID.rawValue: "\(call.id)", "error": "\(cause)"]
            )
            (kept, error) = (.unknown, .connectionLost(requestMayHaveBeenDelivered: true))
        case .refused(let cause): (kept, error) = (.refused, .invalidRequest("\(cause)"))
        case .notWritten: (kept, error) = (.notWritten, .connectionLost(requestMayHaveBeenDelivered: false))
        }
        carryOut(decide(kept, call, attempt), failing: { _ in error })
    }

    private func carryOut(
        _ decision: PendingTable<PendingCall>.Decision,
        failing error: (PendingCall) -> RPCError
    ) {
        switch decision {
        case .none: break
        case .ended(let ending): ending.call.end(.failed(error(ending.call).after(ending.doubt)))
        case .retry(let retry): pause(retry, error(retry.call))
        case .sendAgain(let id, after: .zero): enqueue(id)
        case .sendAgain(let id, let delay):
            eventLoop.scheduleTask(in: TimeAmount(delay)) { [weak self] in self?.enqueue(id) }
        }
    }

    private func decide(
        _ outcome: PendingTable<PendingCall>.Outcome,
        _ call: PendingCall,
        _ attempt: Int
    ) -> PendingTable<PendingCall>.Decision {
        release { $0.pending.outcome(outcome, of: call.id, attempt: attempt) }
    }

    /// Delays the next attempt of a call that may be sent again, or ends the call when there is no time for that.
    private func pause(_ retry: PendingTable<PendingCall>.Retry, _ error: RPCError) {
        let delay = retry.call.options.retry.delay(after: retry.attempts)
        counters.retried()
        if let ending = release({ $0.pending.endUnlessTime(for: retry, after: delay, now: .now) }) {
            return ending.call.end(.failed(error.after(ending.doubt)))
        }
        eventLoop.scheduleTask(in: TimeAmount(delay)) { [weak self] in self?.enqueue(retry.id) }
    }

    private func enqueue(_ id: RequestID) {
        state.withLock { $0.pending.enqueue(id) }
        sendQueued()
    }

    /// Sends the calls in the wait queue, as long as there are channels.
    private func sendQueued(first: AMQPChannel? = nil) {
        var given = first
        // A channel is picked only for a call that will be sent: picking one in vain would skip every second turn, so that with two
        // channels each retry would get the same one.
        while state.withLock({ $0.wantsChannel }), let channel = given ?? registry.pick() {
            given = nil
            let next = state.withLock { state -> Taken? in
                guard let replyRoute = state.route(through: channel) else { return nil }
                return state.pending.takeFirstQueued(route: replyRoute.route, now: CompactInstant.now)
                    .map { Taken(submission: $0, replyTo: replyRoute.replyTo) }
            }
            guard let next else { break }
            send(next, on: channel)
        }
        startWaitingForChannel()
    }

    /// Waits for a channel on behalf of the wait queue: one task, however many calls wait.
    private func startWaitingForChannel() {
        let isStarting = state.withLock { state in
            guard !state.isWaitingForChannel, state.wantsChannel else { return false }
            state.isWaitingForChannel = true
            return true
        }
        guard isStarting else { return }
        // Detached: it must not inherit the priority, the cancellation or the task-local values of a call.
        let channelWaiter = Task.detached { [weak self, registry] in
            while !Task.isCancelled, !registry.isEnded {
                let channel = try? await registry.next(before: .now + .seconds(60))
                guard let self else { return }
                if let channel { sendQueued(first: channel) }
                if stopWaitingIfDone() { return }
            }
        }
        let isOver = state.withLock { state in
            if state.isWaitingForChannel { state.channelWaiter = channelWaiter }
            return state.pending.isClosed
        }
        if isOver { channelWaiter.cancel() }
    }

    private func stopWaitingIfDone() -> Bool {
        state.withLock { state in
            if state.wantsChannel { return false }
            state.isWaitingForChannel = false
            return true
        }
    }
}

/// Attaches channels to the reply queue, and moves them when it is lost.
extension CallTable {
    /// Makes a channel of the pool ready for calls: returns when replies can arrive through it.
    func open(_ channel: AMQPChannel) async throws {
        do {
            try await prepare(channel)
            setUpFailure.withLock { $0 = nil }
        } catch {
            setUpFailure.withLock { $0 = "\(error)" }
            throw error
        }
    }

    private func prepare(_ channel: AMQPChannel) async throws {
        try await RPCTopology(names: settings.names).ensureExchange(on: channel.connection)
        if !settings.confirms { await channel.onReturn { [weak self] in self?.returned($0) } }
        try await channel.setPrefetch(settings.replyPrefetch)
        let id = ObjectIdentifier(channel)
        let number = state.withLock { state in
            state.lastChannel &+= 1
            state.channels[id] = AttachedChannel(channel: channel, number: state.lastChannel)
            return state.lastChannel
        }
        channel.onClosed { [weak self] error in
            self?.brokerLimit.learn(from: error)
            self?.closed(id, number)
        }
        switch settings.replies {
        case .direct: try await consumeDirectReplies(on: channel)
        case .queue:
            // First, so that no old queue is left once calls work; and again for queues abandoned in the meantime.
            await abandoned.delete(on: channel.connection)
            try await attach(channel)
            await abandoned.delete(on: channel.connection)
        }
    }

    /// Consumes `amq.rabbitmq.reply-to`: replies to requests sent on this channel arrive on this channel, unacknowledged; the broker stores
    /// none of them.
    private func consumeDirectReplies(on channel: AMQPChannel) async throws {
        let queue = RPCReplies.directQueue
        do throws(AMQPError) {
            _ = try await channel.consume(
                queue: queue,
                noAck: true,
                onDelivery: { [weak self] delivery in self?.replied(delivery) },
                // Its replies cannot arrive any more. The channel's process opens a new one.
                onCancel: { channel.beginClose() }
            )
        } catch {
            throw RPCTopologyError.named("queue", queue, error)
        }
    }

    /// Declares and consumes the reply queue, and repeats that if the name has changed in the meantime.
    private func attach(_ channel: AMQPChannel) async throws {
        let id = ObjectIdentifier(channel)
        while true {
            let begun = state.withLock { state -> (ReplyQueueState<ObjectIdentifier>.Attempt, String?)? in
                // After the end of the table nobody would consume the declared queue.
                guard !state.pending.isClosed, let tag = state.channels[id].map(\.tag) else { return nil }
                state.channels[id]?.tag = nil
                return (state.replyQueue.begin(id), tag)
            }
            guard let (attempt, oldTag) = begun else { throw channel.closedError ?? AMQPError.channelClosed }
            do {
                if let oldTag { try await channel.cancel(oldTag) }
                let consumers = try await declare(attempt.name, on: channel)
                if apply({ $0.replyQueue.declared(id, attempt, consumers: consumers) }) == .proceed {
                    let tag = try await consume(attempt.name, on: channel)
                    state.withLock { $0.channels[id]?.tag = tag }
                    if apply({ $0.replyQueue.consumes(id, attempt) }) == .proceed { return }
                }
                // The name was abandoned in the meantime, and this declaration may have recreated its queue.
                abandoned.add(attempt.name)
            } catch {
                // The same holds for a name whose channel ended before it consumed: known when the channel is closed.
                channel.onClosed { [self] _ in abandonIfGivenUp(attempt.name) }
                throw error
            }
        }
    }

    /// Called when the table has ended and the channel is about to be closed. A channel that was still attaching may have redeclared the
    /// reply queue after the last consumer was gone, and nobody else would delete it.
    private func abandonReplyQueue(of channel: AMQPChannel) async {
        let id = ObjectIdentifier(channel)
        switch settings.replies {
        case .direct: return
        case .queue: guard state.withLock({ $0.channels[id].map { $0.tag == nil } }) == true else { return }
        }
        await channel.close()
        await abandoned.delete(on: channel.connection)
    }

    private func abandonIfGivenUp(_ name: String) {
        let isGivenUp = state.withLock { $0.pending.isClosed || $0.replyQueue.name != name }
        if isGivenUp { abandoned.add(name) }
    }

    private func declare(_ queue: String, on channel: AMQPChannel) async throws -> Int {
        do throws(AMQPError) {
            let milliseconds = RequestMessage.milliseconds(settings.replyQueueExpiry)
            let consumers = try await channel.declareQueue(
                queue,
                durable: true,
                autoDelete: true,
                arguments: ["x-expires": .int64(milliseconds)]
            ).consumerCount
            if let exchange = settings.bounceExchange {
                let match: FieldTable = ["x-match": "all", Header.caller: .string(queue)]
                try await channel.declareExchange(exchange, type: .headers, durable: true)
                try await channel.bindQueue(queue, to: exchange, arguments: match)
            }
            return consumers
        } catch {
            throw refused(queue, error)
        }
    }

    private func consume(_ queue: String, on channel: AMQPChannel) async throws -> String {
        let acknowledgements = ReplyAcknowledgements(channel)
        do throws(AMQPError) {
            return try await channel.consume(
                queue: queue,
                onDelivery: { [weak self] delivery in
                    self?.replied(delivery)
                    acknowledgements.add(delivery.deliveryTag)
                },
                onCancel: { [weak self, id = ObjectIdentifier(channel)] in
                    self?.apply { (.proceed, $0.replyQueue.cancelled(id, name: queue)) }
                }
            )
        } catch {
            throw refused(queue, error)
        }
    }

    private func refused(_ queue: String, _ error: AMQPError) -> any Error {
        if error.replyCode == 404 { apply { (.proceed, $0.replyQueue.missing(name: queue)) } }
        return RPCTopologyError.named("queue", queue, error)
    }

    /// Handles the end of a channel.
    private func closed(_ id: ObjectIdentifier, _ number: UInt32) {
        // While the caller is stopping, waiting calls go on as long as another channel exists.
        if state.withLock({ !$0.pending.isDraining }) { closeIfDependencyEnded() }
        switch settings.replies {
        case .queue:
            apply { state in
                state.channels[id] = nil
                return (.proceed, state.replyQueue.closed(id))
            }
        case .direct:
            let lost = release { state in
                state.channels[id] = nil
                return state.pending.repliesLost(route: number) { $0.withdraw() }
            }
            carryOut(lost)
        }
    }

    /// Applies an event to the state of the reply queue, and performs the resulting actions.
    @discardableResult
    private func apply(
        _ decide: (inout State) -> (ReplyQueueState<ObjectIdentifier>.Step, [ReplyQueueState<ObjectIdentifier>.Action])
    ) -> ReplyQueueState<ObjectIdentifier>.Step {
        var lost: (name: String, next: String, calls: PendingTable<PendingCall>.RepliesLost)?
        var moving: [AMQPChannel] = []
        var isUsable = false
        var isEnding = false
        let step = release { state in
            let (step, actions) = decide(&state)
            isEnding = state.pending.isDraining || state.pending.isClosed
            for action in actions {
                switch action {
                case .lost(let name):
                    abandoned.add(name)
                    lost = (name, state.replyQueue.name, state.pending.repliesLost { $0.withdraw() })
                // After the end of the table there is nothing to move to.
                case .move(let id) where !state.pending.isClosed:
                    moving += state.channels[id].map { [$0.channel] } ?? []
                case .move: break
                case .usable: isUsable = true
                }
            }
            return step
        }
        if let lost {
            logger.log(
                // A caller that ends abandons its queue: not worth a notice.
                level: isEnding ? .debug : .notice,
                "the reply queue is lost",
                metadata: ["queue": "\(lost.name)", "next": "\(lost.next)", "calls": "\(lost.calls.ended.count)"]
            )
            carryOut(lost.calls)
        }
        for channel in moving { move(channel) }
        if isUsable { sendQueued() }
        if isUsable || lost != nil { changed() }
        return step
    }

    private func carryOut(_ lost: PendingTable<PendingCall>.RepliesLost) {
        for ending in lost.ended { ending.call.end(.failed(.replyQueueLost)) }
        for retry in lost.retries { pause(retry, .replyQueueLost) }
        guard !lost.withdrawn.isEmpty else { return }
        state.withLock { state in
            for id in lost.withdrawn { state.pending.enqueue(id) }
        }
        sendQueued()
    }

    /// Attaches a channel to the new name. A channel that cannot be attached is closed; its process opens a new one.
    private func move(_ channel: AMQPChannel) {
        // Not awaited: it ends with the channel, and each of its operations within the operation timeout.
        Task.detached { [self] in
            do {
                try await attach(channel)
                await abandoned.delete(on: channel.connection)
            } catch {
                logger.warning("a channel did not move to the new reply queue", metadata: ["error": "\(error)"])
                await channel.close()
            }
        }
    }
}

extension CallTable {
    /// Where replies arrive, for the log.
    var replyDetails: Logger.Metadata {
        switch settings.replies {
        case .queue: ["replies": "\(state.withLock { $0.replyQueue.name })"]
        case .direct: ["replies": "\(RPCReplies.directQueue)"]
        }
    }
}

extension CallTable.State {
    /// How replies to a message on this channel arrive: the name to send them to, and the route that they are lost with. `nil`: not at
    /// present.
    func route(through channel: AMQPChannel) -> (replyTo: String, route: UInt32)? {
        switch replies {
        case .queue: replyQueue.isConsumed ? (replyQueue.name, 0) : nil
        case .direct: channels[ObjectIdentifier(channel)].map { (RPCReplies.directQueue, $0.number) }
        }
    }
}

extension AMQPError {
    /// The broker's text, if this is its refusal of the permission to write to an exchange.
    func refusal(ofWritingTo exchange: String) -> String? {
        guard case .channelClosedByBroker(403, let text) = cause, text.contains("exchange '\(exchange)'") else {
            return nil
        }
        return text
    }
}

/// Acknowledges replies in batches: all replies of one read from the socket with one frame.
private final class ReplyAcknowledgements: Sendable {
    private let channel: AMQPChannel
    private let last = Mutex<UInt64?>(nil)

    init(_ channel: AMQPChannel) {
        self.channel = channel
    }

    /// Called on the event loop, in order. The channel has no other consumer, so an acknowledgement with `multiple` covers only processed
    /// replies.
    func add(_ tag: UInt64) {
        let isFirst = last.withLock { last in
            defer { last = tag }
            return last == nil
        }
        guard isFirst else { return }
        channel.eventLoop.execute { [self] in
            let tag = last.withLock { last in
                defer { last = nil }
                return last
            }
            if let tag { channel.acknowledge(tag, multiple: true) }
        }
    }
}
