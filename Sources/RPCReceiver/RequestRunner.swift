import AMQPPool
import DequeModule
import Logging
import NIOCore
import RPCWire
import Synchronization

/// Runs requests: each as a task of its own, no more than `concurrency` at once, none longer than it may.
///
/// What an ending means is decided by ``RequestTable``, ``AnsweredRequests``, ``DeliveryHistory``, ``RequestAdmission`` and
/// ``RPCFailurePolicy``; this class starts the tasks and carries out what was decided.
final class RequestRunner: Sendable {
    typealias Key = RequestTable<Job, ObjectIdentifier>.Key

    /// A request that was delivered, and on which channel.
    struct Asked: Sendable {
        let request: any IncomingRequest
        let channel: ObjectIdentifier
        /// Whether its answer must not share a connection with others: see ``DeliveryHistory``.
        var isAnsweredAlone = false
    }

    struct Job: Sendable {
        let asked: Asked
        let deadline: Moment
        /// Whether the caller has given up at the deadline, rather than the receiver's own limit being reached.
        let isCallersDeadline: Bool

        var request: any IncomingRequest { asked.request }
        var channel: ObjectIdentifier { asked.channel }
    }

    /// What a handler that ran said, for those who ask the same again.
    enum Answer: Sendable {
        case result(RPCReply)
        case failure(RPCFailure)
    }

    /// A request that has a place, and whose task is to be made, or to go on.
    private typealias Start = RequestTable<Job, ObjectIdentifier>.Start

    /// What becomes of a request that was delivered.
    private enum Admission {
        /// It runs or waits. What is to be started now, if anything, may be another.
        case accepted(Start?)
        /// The table has ended.
        case none
        case shed
    }

    /// How a request goes on that waited for the answer to another of the same id.
    private enum Resumption: Sendable {
        case answered(Answer)
        /// The other left without an answer.
        case run
        /// It was given up meanwhile.
        case givenUp
    }

    /// A request that waits for the answer to another of the same id, without a place of its own.
    private struct Follower {
        let continuation: CheckedContinuation<Resumption, Never>
        /// How it goes on when it has a place again.
        var resumption = Resumption.run
    }

    private struct IdleWaiter {
        let channel: ObjectIdentifier
        let continuation: CheckedContinuation<Bool, Never>
    }

    private struct State {
        var table: RequestTable<Job, ObjectIdentifier>
        var answers: AnsweredRequests<Answer>?
        var tasks: [Key: Task<Void, Never>] = [:]
        /// What those are recognised by that have got as far as to the deduplication.
        var ids: [Key: AnsweredRequests<Answer>.ID] = [:]
        var followers: [Key: Follower] = [:]
        /// Those that are answered with what was said to another.
        var repetitions: Set<Key> = []
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

        /// A request left without an answer: one that followed it is worked on instead.
        mutating func left(_ key: Key) {
            guard let id = ids.removeValue(forKey: key), let next = answers?.left(id, key) else { return }
            table.enqueue(next)
        }

        /// A request was answered: those that followed it are answered with the same, each when it has a place.
        mutating func answered(_ key: Key, _ answer: Answer, size: Int) {
            guard let id = ids.removeValue(forKey: key), answers != nil else { return }
            for follower in answers?.answered(id, key, answer, size: size, at: .now) ?? [] {
                ids[follower] = nil
                followers[follower]?.resumption = .answered(answer)
                repetitions.insert(follower)
                table.enqueue(follower)
            }
        }

        /// Requests were given up: what has to be done for each outside the lock.
        mutating func abandoned(_ keys: [Key]) -> (tasks: [Task<Void, Never>], followers: [Follower]) {
            (keys.compactMap { tasks[$0] }, keys.compactMap { followers.removeValue(forKey: $0) })
        }
    }

    let procedures: Procedures
    let settings: Settings
    let counters: ReceiverCounters
    let brokerLimit: BrokerMessageLimit
    let permission: ReplyPermission
    let memory: DeliveryMemory
    let isolated: IsolatedReplies
    let log: RequestLog
    private let logger: Logger
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
        memory: DeliveryMemory,
        isolated: IsolatedReplies,
        zombiesChanged: @escaping @Sendable () -> Void = {}
    ) {
        self.zombiesChanged = zombiesChanged
        self.brokerLimit = brokerLimit
        self.permission = permission
        self.memory = memory
        self.isolated = isolated
        self.procedures = procedures
        self.settings = settings
        self.counters = counters
        self.logger = logger
        log = RequestLog(logger, queue: settings.admission.queue)
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
        if let refusal = settings.admission.refusal(of: request) { return turnAway(asked, refusal) }
        if request.replyTo != nil, let refusal = permission.refusal(at: now.instant) {
            return giveUp(asked, refusal)
        }
        var remembered: (requeues: Int, deadline: Moment?) = (0, nil)
        if request.redelivered {
            counters.redelivered()
            guard let resumed = returned(asked) else { return }
            asked = resumed
            remembered = memory.record(of: DeliveryMemory.Key(request))
        }
        let message: RequestMessage
        switch request.message {
        case .success(let read): message = read
        case .failure(let failure):
            counters.unreadable()
            return refuse(asked, failure)
        }
        if let count = settings.admission.attempts(of: request, requeues: remembered.requeues) {
            counters.poisoned()
            reject(asked, message, RPCFailure(code: .poison, message: "delivered \(count) times without an answer"))
            return
        }
        let ownLimit = now + settings.handlerTimeLimit
        let callersDeadline = [message.timeoutMilliseconds.map { now + .milliseconds($0) }, remembered.deadline]
            .compactMap { $0 }.min()
        if let callersDeadline, callersDeadline <= now {
            counters.expired(hadBegun: false)
            return request.acknowledge()
        }
        let deadline = min(ownLimit, callersDeadline ?? ownLimit)
        let job = Job(asked: asked, deadline: deadline, isCallersDeadline: deadline == callersDeadline)
        switch state.withLock({ admit(job, message, at: now, &$0) }) {
        case .accepted(let next):
            timer.withLock { $0 }?.arm(deadline)
            start(next)
        case .none: break
        case .shed:
            counters.shed()
            let limit = "\(settings.concurrency) requests run and \(settings.maximumWaiting ?? 0) wait"
            reply(to: asked, RPCFailure(code: .overloaded, message: limit))
        }
    }

    private func admit(
        _ job: Job,
        _ message: RequestMessage,
        at now: Moment,
        _ state: inout State
    ) -> Admission {
        // A cast has nobody to tell that it was not worked on: it waits.
        if let limit = settings.maximumWaiting, message.replyTo != nil, state.table.isFull,
            state.table.waitingCount >= limit
        {
            return .shed
        }
        guard state.table.accept(job, from: job.channel, deadline: job.deadline, now: now) != nil else { return .none }
        return .accepted(state.table.startNext(at: now))
    }

    /// A channel is gone: its handlers are cancelled, and the broker redelivers its requests.
    func channelClosed(_ channel: ObjectIdentifier, _ error: AMQPError) {
        // Perhaps for a reply. Its request is redelivered: what the broker takes, and whether, is known then.
        brokerLimit.learn(from: error)
        permission.learn(from: error)
        let (gone, abandoned, idle, next) = state.withLock { state in
            let gone = state.table.closed(channel)
            for (key, _) in gone { state.left(key) }
            let abandoned = state.abandoned(gone.map(\.key))
            return (gone, abandoned, state.takeIdleWaiters(), state.table.startNext(at: .now))
        }
        let unanswered = gone.compactMap { _, job in
            job.isCallersDeadline ? (DeliveryMemory.Key(job.request), job.deadline) : nil
        }
        memory.closed(channel, error, unanswered: unanswered)
        for waiter in idle { waiter.resume(returning: true) }
        start(next)
        end(abandoned)
    }

    /// The end of this incarnation: every handler is cancelled and nothing is answered any more.
    func close() {
        timer.withLock { timer in
            timer?.cancel()
            timer = nil
        }
        let (abandoned, idle) = state.withLock { state in
            (state.abandoned(state.table.close()), state.takeIdleWaiters())
        }
        for waiter in idle { waiter.resume(returning: true) }
        end(abandoned)
    }

    private func end(_ abandoned: (tasks: [Task<Void, Never>], followers: [Follower])) {
        for task in abandoned.tasks { task.cancel() }
        for follower in abandoned.followers { follower.continuation.resume(returning: .givenUp) }
        if !abandoned.tasks.isEmpty { zombiesChanged() }
    }

    /// How many requests are taken on and not answered.
    var count: Int { state.withLock { $0.table.count } }

    /// The requests that were taken on first, and how many run and wait.
    func look(oldest limit: Int) -> (oldest: [CallInFlight], running: Int, waiting: Int) {
        let now = Moment.now
        return state.withLock { state in
            (
                state.table.oldest(limit, at: now) { job in
                    guard case .success(let message) = job.request.message else { return ("", "") }
                    return (message.messageID ?? "", message.procedure ?? "")
                },
                state.table.runningCount, state.table.waitingCount
            )
        }
    }

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
        while let (key, job, isResumed) = next {
            if isResumed {
                let follower: Follower?
                (follower, next) = state.withLock { state in
                    (state.followers.removeValue(forKey: key), state.table.startNext(at: .now))
                }
                // `nil`: it was given up meanwhile.
                follower?.continuation.resume(returning: follower?.resumption ?? .givenUp)
                continue
            }
            // Detached: the task must not inherit a shutdown signal from whoever happens to run here.
            let task = Task.detached { [self] in
                // What the handler calls inherits its deadline.
                let outcome = await RPCDeadline.$inherited.withValue(job.deadline) { await run(key, job) }
                finished(key, outcome)
            }
            let isGivenUp: Bool
            (isGivenUp, next) = state.withLock { state in
                // It may have ended, or been given up, before its task was known here.
                if state.table.isRunning(key) || state.followers[key] != nil { state.tasks[key] = task }
                return (state.table.isZombie(key), state.table.startNext(at: .now))
            }
            if isGivenUp { task.cancel() }
        }
    }

    /// Runs a request's handler in the task that was made for it, unless the request was given up before the task got its turn.
    func run(_ key: Key, _ job: Job) async -> HandlerOutcome {
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
        guard let start = counters.began() else { return await intercept(key, message, context) }
        let outcome = await intercept(key, message, context)
        let procedure = procedures.knows(message.procedure) ? message.procedure ?? "" : nil
        counters.ended(procedure, since: start, outcome)
        return outcome
    }

    /// The interceptors stand around the deduplication: a request that comes again is looked at by each of them again.
    private func intercept(_ key: Key, _ message: RequestMessage, _ context: RPCContext) async -> HandlerOutcome {
        guard !settings.interceptors.isEmpty else {
            return await answer(key, message.procedure, message.contentType, message.body, context)
        }
        let all = RPCReceiverNext(settings.interceptors[...]) { [self] request, context in
            switch await answer(key, request.procedure, request.contentType, request.body, context) {
            case .result(let reply): return reply
            case .failed(let failure): throw failure
            case .crashed(let error): throw error
            }
        }
        do {
            return .result(try await all(RPCRequest(message, deadline: context.deadline), context))
        } catch {
            return HandlerOutcome(error, passesUpstreamFailures: settings.passesUpstreamFailures)
        }
    }

    /// Runs the handler, or finds what it said to another request of the same id.
    private func answer(
        _ key: Key,
        _ procedure: String?,
        _ contentType: String?,
        _ body: ByteBuffer,
        _ context: RPCContext
    ) async -> HandlerOutcome {
        if settings.deduplication != nil, let messageID = context.messageID {
            switch await turn(key, AnsweredRequests<Answer>.ID(procedure: procedure, messageID: messageID)) {
            case .answered(.result(let reply)): return .result(reply)
            case .answered(.failure(let failure)): return .failed(failure)
            case .givenUp: return .crashed(CancellationError())
            case .run: break
            }
        }
        let outcome = await procedures.handle(
            procedure: procedure,
            contentType: contentType,
            body: body,
            context: context,
            passesUpstreamFailures: settings.passesUpstreamFailures
        )
        if settings.deduplication != nil { settle(key, outcome, context) }
        return outcome
    }

    /// Whether a request is worked on, or has its answer from another of the same id, which it may have to wait for.
    private func turn(_ key: Key, _ id: AnsweredRequests<Answer>.ID) async -> Resumption {
        await withCheckedContinuation { continuation in
            let (resumption, next) = state.withLock { state -> (Resumption?, Start?) in
                guard state.table.isRunning(key) else { return (.givenUp, nil) }
                switch state.answers?.arrival(of: id, at: .now) {
                case .answered(let answer):
                    state.repetitions.insert(key)
                    return (.answered(answer), nil)
                case .run, nil:
                    state.answers?.begin(id, key)
                    state.ids[key] = id
                    return (.run, nil)
                case .follow:
                    state.answers?.begin(id, key)
                    state.ids[key] = id
                    state.table.follow(key)
                    state.followers[key] = Follower(continuation: continuation)
                    return (nil, state.table.startNext(at: .now))
                }
            }
            if let resumption { continuation.resume(returning: resumption) }
            start(next)
        }
    }

    /// A handler has ended: what it said is kept for those who ask the same again, if it may be.
    private func settle(_ key: Key, _ outcome: HandlerOutcome, _ context: RPCContext) {
        let answer: Answer?
        switch outcome {
        case .result(let reply): answer = .result(reply.compact)
        case .failed(let failure): answer = failure.code.saysThatNothingRan ? nil : .failure(failure)
        case .crashed(let error):
            let ending = settings.onFailure.ending(redelivered: context.redelivered)
            answer = ending == .requeue ? nil : .failure(failure(of: error, messageID: context.messageID))
        }
        let next = state.withLock { state -> Start? in
            if let answer { state.answered(key, answer, size: answer.size) } else { state.left(key) }
            return state.table.startNext(at: .now)
        }
        start(next)
    }

    private func finished(_ key: Key, _ outcome: HandlerOutcome) {
        let (job, isRepeated, isChanged, next) = state.withLock { state in
            let before = state.table.zombieCount
            let job = state.table.finish(key)
            if let job { state.answering[job.channel, default: 0] += 1 }
            state.tasks[key] = nil
            // An interceptor may end without going on to the handler, or with something else than what the handler said.
            state.left(key)
            let isRepeated = state.repetitions.remove(key) != nil
            return (job, isRepeated, state.table.zombieCount != before, state.table.startNext(at: .now))
        }
        start(next)
        if isChanged { zombiesChanged() }
        // `nil`: it was too late, or its channel is gone.
        guard let job, case .success(let message) = job.request.message else { return }
        answer(job.asked, message, outcome, isRepeated: isRepeated)
        answered(job.asked)
    }

    private func expire() {
        let late = RPCFailure(code: .handlerTimeout, message: "no result within \(settings.handlerTimeLimit)")
        let (expired, abandoned, deadline, next) = state.withLock { state in
            let expired = state.table.expire(at: Moment.now)
            for (key, job, hadBegun) in expired {
                state.answering[job.channel, default: 0] += 1
                // What ran into the receiver's limit is answered, below.
                if job.isCallersDeadline || !hadBegun {
                    state.left(key)
                } else {
                    state.answered(key, .failure(late), size: 0)
                }
            }
            let abandoned = state.abandoned(expired.map(\.key))
            return (expired, abandoned, state.table.earliestDeadline, state.table.startNext(at: .now))
        }
        if let deadline { timer.withLock { $0 }?.arm(deadline) }
        start(next)
        end(abandoned)
        for (_, job, hadBegun) in expired {
            // Only requests that could be read are taken on.
            guard case .success(let message) = job.request.message else { continue }
            if job.isCallersDeadline {
                // Nobody waits for the answer any more.
                counters.expired(hadBegun: hadBegun)
                job.request.acknowledge()
            } else {
                counters.timedOut()
                log(.timedOut, .warning, "a handler took longer than it may", Self.metadata(message))
                reply(to: job.asked, late)
            }
            answered(job.asked)
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

extension RequestRunner.Answer {
    /// How much memory it keeps, roughly.
    var size: Int {
        switch self {
        case .result(let reply): reply.body.readableBytes
        case .failure(let failure): failure.message.utf8.count
        }
    }
}

extension RPCReply {
    /// The same reply in memory of its own: a body may be a slice of something much larger.
    fileprivate var compact: RPCReply {
        var reply = self
        reply.body = ByteBuffer(bytes: body.readableBytesView)
        return reply
    }
}

extension RPCFailure.Code {
    /// Whether a request that ended with it may be worked on when it comes again.
    fileprivate var saysThatNothingRan: Bool {
        [.unknownProcedure, .undecodableRequest, .unsupportedContentType].contains(self)
    }
}
