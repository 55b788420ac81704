import AMQPPool
import DequeModule
import Logging
import NIOCore
import RPCWire
import Synchronization

/// Runs requests: each as a task of its own, no more than `concurrency` at once, none longer than it may.
///
/// What an ending means is decided by ``RequestTable`` and ``FailurePolicy``; this class starts the tasks and carries out what was
/// decided.
final class RequestRunner: Sendable {
    /// How requests are run.
    struct Settings: Sendable {
        var concurrency: Int
        var handlerTimeLimit: Duration
        var onFailure: FailurePolicy
        var deliveryLimit: Int
        var maximumMessageSize: Int
        var exposesErrors: Bool
        var deduplication: RPCDeduplication?
        /// How many calls may wait for a place here; one more is answered as overloaded. `nil`: what is delivered waits.
        var maximumWaiting: Int?
        /// Ours, then those that were configured.
        var interceptors: [any RPCReceiverInterceptor] = []
    }

    /// A request that was delivered, and on which channel.
    struct Asked: Sendable {
        let request: any IncomingRequest
        let channel: ObjectIdentifier
        /// Whether its answer must not share a connection with others: see ``AnswerHistory``.
        var isAnsweredAlone = false
    }

    struct Job: Sendable {
        let asked: Asked
        let deadline: Moment
        /// Whether the caller has given up at the deadline, rather than the receiver's own limit being reached.
        let isCallersDeadline: Bool
        /// What it is recognised by, with a deduplication.
        let id: AnsweredRequests<ReplyMessage>.ID?

        var request: any IncomingRequest { asked.request }
        var channel: ObjectIdentifier { asked.channel }
    }

    /// A request that has a place, and whose task is to be made.
    private typealias Start = (key: RequestTable<Job, ObjectIdentifier>.Key, job: Job)

    /// What becomes of a request that was delivered.
    private enum Admission {
        /// It runs or waits. What is to be started now, if anything, may be another.
        case accepted(Start?)
        /// The table has ended.
        case none
        case shed
        case answered(ReplyMessage)
    }

    private struct IdleWaiter {
        let channel: ObjectIdentifier
        let continuation: CheckedContinuation<Bool, Never>
    }

    private struct State {
        var table: RequestTable<Job, ObjectIdentifier>
        var answers: AnsweredRequests<ReplyMessage>?
        var tasks: [RequestTable<Job, ObjectIdentifier>.Key: Task<Void, Never>] = [:]
        /// Requests that are not, or no longer, in the table while their answer is being written.
        var answering: [ObjectIdentifier: Int] = [:]
        var idleWaiters: [UInt64: IdleWaiter] = [:]
        var lastWaiter: UInt64 = 0

        func isIdle(_ channel: ObjectIdentifier) -> Bool {
            table.count(of: channel) == 0 && answering[channel] == nil
        }

        /// Those whose channels have nothing left to answer.
        mutating func takeIdleWaiters() -> [CheckedContinuation<Bool, Never>] {
            guard !idleWaiters.isEmpty else { return [] }
            var taken: [CheckedContinuation<Bool, Never>] = []
            for (id, waiter) in idleWaiters where isIdle(waiter.channel) {
                idleWaiters[id] = nil
                taken.append(waiter.continuation)
            }
            return taken
        }
    }

    let procedures: Procedures
    let settings: Settings
    let counters: ReceiverCounters
    let brokerLimit: BrokerMessageLimit
    let permission: ReplyPermission
    let refused: RefusedAnswers
    let isolated: IsolatedReplies
    let logger: Logger
    private let eventLoop: any EventLoop
    private let state: Mutex<State>
    private let timer: Mutex<DeadlineTimer?> = Mutex(nil)
    /// Hears of each change in the number of zombies.
    private let zombiesChanged: @Sendable () -> Void

    init(
        procedures: Procedures,
        settings: Settings,
        counters: ReceiverCounters,
        eventLoop: any EventLoop,
        logger: Logger,
        brokerLimit: BrokerMessageLimit = BrokerMessageLimit(),
        permission: ReplyPermission = ReplyPermission(),
        refused: RefusedAnswers,
        isolated: IsolatedReplies,
        zombiesChanged: @escaping @Sendable () -> Void = {}
    ) {
        self.zombiesChanged = zombiesChanged
        self.brokerLimit = brokerLimit
        self.permission = permission
        self.refused = refused
        self.isolated = isolated
        self.procedures = procedures
        self.settings = settings
        self.counters = counters
        self.logger = logger
        self.eventLoop = eventLoop
        state = Mutex(
            State(
                table: RequestTable(concurrency: settings.concurrency),
                answers: settings.deduplication.map { AnsweredRequests($0) }
            )
        )
        let timer = DeadlineTimer(on: eventLoop) { [weak self] in self?.expire() }
        self.timer.withLock { $0 = timer }
    }

    // MARK: Coming

    /// Takes on a request that was delivered on a channel. Does not block.
    func accept(_ request: any IncomingRequest, from channel: ObjectIdentifier) {
        counters.received()
        let now = Moment.now
        var asked = Asked(request: request, channel: channel)
        if request.redelivered { counters.redelivered() }
        if request.replyTo != nil, let refusal = permission.refusal(at: now.instant) {
            return giveUp(asked, refusal)
        }
        if request.redelivered {
            guard let resumed = returned(asked) else { return }
            asked = resumed
        }
        let message: RequestMessage
        switch request.message {
        case .success(let read): message = read
        case .failure(let failure):
            refuse(asked, failure)
            return
        }
        if let count = request.deliveryCount, count >= settings.deliveryLimit {
            counters.poisoned()
            let failure = RPCFailure(code: .poison, message: "delivered \(count) times without an answer")
            reject(asked, message, failure)
            return
        }
        let ownLimit = now + settings.handlerTimeLimit
        let callersDeadline = message.timeoutMilliseconds.map { now + .milliseconds($0) }
        if let callersDeadline, callersDeadline <= now {
            counters.expired(hadBegun: false)
            return request.acknowledge()
        }
        let deadline = min(ownLimit, callersDeadline ?? ownLimit)
        let job = Job(
            asked: asked,
            deadline: deadline,
            isCallersDeadline: deadline == callersDeadline,
            id: settings.deduplication == nil ? nil : message.answerID
        )
        switch state.withLock({ admit(job, message, at: now, &$0) }) {
        case .accepted(let next):
            timer.withLock { $0 }?.arm(deadline)
            start(next)
        case .none: break
        case .shed:
            counters.shed()
            let limit = "\(settings.concurrency) requests run and \(settings.maximumWaiting ?? 0) wait"
            reply(to: asked, RPCFailure(code: .overloaded, message: limit))
        case .answered(let reply):
            counters.repeated()
            replay(reply, to: asked)
        }
    }

    private func admit(
        _ job: Job,
        _ message: RequestMessage,
        at now: Moment,
        _ state: inout State
    ) -> Admission {
        var follows = false
        if let id = job.id {
            switch state.answers?.arrival(of: id, at: now.instant) {
            case .answered(let reply): return .answered(reply)
            case .follow: follows = true
            case .run, nil: break
            }
        }
        // A cast has nobody to tell that it was not worked on: it waits.
        if !follows, let limit = settings.maximumWaiting, message.replyTo != nil, state.table.isFull,
            state.table.waitingCount >= limit
        {
            return .shed
        }
        guard let key = state.table.accept(job, from: job.channel, deadline: job.deadline, follows: follows) else {
            return .none
        }
        if let id = job.id {
            state.answers?.begin(id, key)
        }
        return .accepted(state.table.startNext(at: now))
    }

    /// A channel is gone: its handlers are cancelled, and the broker redelivers its requests.
    func channelClosed(_ channel: ObjectIdentifier, _ error: AMQPError) {
        // Perhaps for a reply. Its request is redelivered: what the broker takes, and whether, is known then.
        brokerLimit.learn(from: error)
        permission.learn(from: error)
        refused.closed(channel, error)
        let (cancelled, idle, next) = state.withLock { state in
            let gone = state.table.closed(channel)
            let tasks = gone.compactMap { state.tasks[$0.key] }
            for (key, job) in gone { left(key, job, &state) }
            return (tasks, state.takeIdleWaiters(), state.table.startNext(at: .now))
        }
        for waiter in idle { waiter.resume(returning: true) }
        start(next)
        for task in cancelled { task.cancel() }
        if !cancelled.isEmpty { zombiesChanged() }
    }

    /// A request left without an answer: one that followed it is worked on instead.
    private func left(_ key: UInt64, _ job: Job, _ state: inout State) {
        if let id = job.id, let next = state.answers?.left(id, key) { state.table.lineUp(next) }
    }

    /// The end of this incarnation: every handler is cancelled and nothing is answered any more.
    func close() {
        timer.withLock { timer in
            timer?.cancel()
            timer = nil
        }
        let (cancelled, idle) = state.withLock { state in
            let tasks = state.table.close().compactMap { state.tasks[$0] }
            return (tasks, state.takeIdleWaiters())
        }
        for waiter in idle { waiter.resume(returning: true) }
        for task in cancelled { task.cancel() }
    }

    /// How many requests are taken on and not answered.
    var count: Int { state.withLock { $0.table.count } }

    /// How many handlers run on although their requests are given up.
    var zombieCount: Int { state.withLock { $0.table.zombieCount } }

    /// Waits until no request of a channel is left unanswered; `false` at the deadline, or when the task is cancelled.
    /// Something has to stop new ones from coming first.
    func idle(_ channel: ObjectIdentifier, before deadline: ContinuousClock.Instant) async -> Bool {
        let id = state.withLock { state in
            state.lastWaiter += 1
            return state.lastWaiter
        }
        let timer = DeadlineTimer(on: eventLoop) { [weak self] in self?.wake(id, isIdle: false) }
        defer { timer.cancel() }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isIdle = state.withLock { state -> Bool? in
                    if state.isIdle(channel) { return true }
                    if Task.isCancelled { return false }
                    state.idleWaiters[id] = IdleWaiter(channel: channel, continuation: continuation)
                    return nil
                }
                if let isIdle { continuation.resume(returning: isIdle) } else { timer.arm(deadline) }
            }
        } onCancel: {
            wake(id, isIdle: false)
        }
    }

    private func wake(_ id: UInt64, isIdle: Bool) {
        state.withLock { $0.idleWaiters.removeValue(forKey: id) }?.continuation.resume(returning: isIdle)
    }

    // MARK: Running

    /// Starts a request that has a place, and those that find one after it.
    ///
    /// Outside the lock: to make a task is to allocate it and to wake a thread, and that thread needs the lock.
    private func start(_ first: Start?) {
        var next = first
        while let (key, job) = next {
            // Detached: the task must not inherit a shutdown signal from whoever happens to run here.
            let task = Task.detached { [self] in
                // What the handler calls inherits its deadline.
                let outcome = await RPCDeadline.$inherited.withValue(job.deadline) { await run(job) }
                finished(key, outcome)
            }
            let isGivenUp: Bool
            (isGivenUp, next) = state.withLock { state in
                // It may have ended, or been given up, before its task was known here.
                if state.table.isRunning(key) { state.tasks[key] = task }
                return (state.table.isZombie(key), state.table.startNext(at: .now))
            }
            if isGivenUp { task.cancel() }
        }
    }

    /// Runs a request's handler in the task that was made for it, unless the request was given up before the task got its turn.
    func run(_ job: Job) async -> HandlerOutcome {
        guard !Task.isCancelled, case .success(let message) = job.request.message else {
            return .crashed(CancellationError())
        }
        let context = RPCContext(
            procedure: message.procedure ?? "",
            messageID: message.messageID,
            redelivered: job.request.redelivered,
            deadline: job.deadline.instant,
            headers: message.headers,
            logger: logger
        )
        guard let metrics = counters.metrics else { return await handle(message, context) }
        let start = metrics.began()
        let outcome = await handle(message, context)
        let procedure = procedures.knows(message.procedure) ? message.procedure ?? "" : nil
        metrics.ended(procedure, since: start, outcome)
        return outcome
    }

    private func handle(_ message: RequestMessage, _ context: RPCContext) async -> HandlerOutcome {
        guard settings.interceptors.isEmpty else {
            let request = RPCRequest(message, deadline: context.deadline)
            return await procedures.handle(request, context, through: settings.interceptors)
        }
        return await procedures.handle(
            procedure: message.procedure,
            contentType: message.contentType,
            body: message.body,
            context: context
        )
    }

    private func finished(_ key: UInt64, _ outcome: HandlerOutcome) {
        let (job, isChanged, next) = state.withLock { state in
            let before = state.table.zombieCount
            let job = state.table.finish(key)
            if let job { state.answering[job.channel, default: 0] += 1 }
            state.tasks[key] = nil
            return (job, state.table.zombieCount != before, state.table.startNext(at: .now))
        }
        start(next)
        if isChanged { zombiesChanged() }
        // `nil`: it was too late, or its channel is gone.
        guard let job, case .success(let message) = job.request.message else { return }
        let reply = answer(job, message, outcome)
        answered(job.asked)
        settle(key, job, reply)
    }

    /// Those that wait for the answer to a request get it; without one, the next of them is worked on.
    private func settle(_ key: UInt64, _ job: Job, _ reply: ReplyMessage?) {
        guard let id = job.id else { return }
        let (followers, next) = state.withLock { state -> ([Job], Start?) in
            guard let reply else {
                left(key, job, &state)
                return ([], state.table.startNext(at: .now))
            }
            let size = reply.body.readableBytes
            let keys = state.answers?.answered(id, key, reply.compact, size: size, at: ContinuousClock.now) ?? []
            let followers = keys.compactMap { state.table.finish($0) }
            for follower in followers { state.answering[follower.channel, default: 0] += 1 }
            return (followers, nil)
        }
        start(next)
        guard let reply else { return }
        for follower in followers {
            counters.repeated()
            replay(reply, to: follower.asked)
            answered(follower.asked)
        }
    }

    private func expire() {
        let (expired, tasks, deadline, next) = state.withLock { state in
            let expired = state.table.expire(at: Moment.now)
            let tasks = expired.compactMap { state.tasks[$0.key] }
            for (key, job, _) in expired {
                state.answering[job.channel, default: 0] += 1
                // What ran into the receiver's limit is answered, below.
                if job.isCallersDeadline { left(key, job, &state) }
            }
            return (expired, tasks, state.table.earliestDeadline, state.table.startNext(at: .now))
        }
        if let deadline { timer.withLock { $0 }?.arm(deadline) }
        start(next)
        for task in tasks { task.cancel() }
        if !tasks.isEmpty { zombiesChanged() }
        for (key, job, hadBegun) in expired {
            // Only requests that could be read are taken on.
            guard case .success(let message) = job.request.message else { continue }
            if job.isCallersDeadline {
                // Nobody waits for the answer any more.
                counters.expired(hadBegun: hadBegun)
                job.request.acknowledge()
                answered(job.asked)
            } else {
                counters.timedOut()
                logger.warning("a handler took longer than it may", metadata: Self.metadata(message))
                let message = "no result within \(settings.handlerTimeLimit)"
                let failure = reply(to: job.asked, RPCFailure(code: .handlerTimeout, message: message))
                answered(job.asked)
                settle(key, job, failure)
            }
        }
    }

    /// The answer to a request is being written.
    func answering(_ asked: Asked) {
        state.withLock { $0.answering[asked.channel, default: 0] += 1 }
    }

    /// It is written, or is not going to be.
    func answered(_ asked: Asked) {
        let idle = state.withLock { state in
            let rest = state.answering[asked.channel, default: 1] - 1
            state.answering[asked.channel] = rest > 0 ? rest : nil
            return state.takeIdleWaiters()
        }
        for waiter in idle { waiter.resume(returning: true) }
    }
}
