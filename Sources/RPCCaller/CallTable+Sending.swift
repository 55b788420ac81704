import AMQPPool
import Logging
import NIOCore
import RPCWire
import Synchronization

/// How what was taken in gets to a channel, and what its outcome there means.
extension CallTable {
    /// A call that is to be written now.
    struct Taken {
        let submission: PendingTable<PendingCall>.Submission
        let replyTo: String
    }

    func send(_ taken: Taken, on channel: AMQPChannel) {
        let call = taken.submission.call
        let attempt = taken.submission.attempt
        if call.kind == .readiness {
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
                tellsFailuresOnly: call.kind == .call
            )
        )
    }

    /// No queue took a message that waits for no confirm, on the event loop.
    func returned(_ properties: MessageProperties) {
        guard let id = properties.messageID.flatMap(RequestID.init) else { return }
        let decision = release { $0.pending.returned(id) }
        carryOut(decision, failing: { .unroutable(destination: $0.request.destination) })
    }

    /// The outcome of a publish, on the event loop.
    func published(_ call: PendingCall, _ attempt: Int, _ outcome: PublishOutcome) {
        let error: RPCError
        let kept: PendingTable<PendingCall>.Outcome
        switch outcome {
        case .confirmed, .presumedDelivered, .sent:
            // The hot path: most calls need no lock for their confirm.
            if call.kind == .call { return }
            if case .ended(let ending) = decide(.confirmed, call, attempt) { ending.call.end(.done) }
            return
        case .nacked: (kept, error) = (.nacked, .rejectedByBroker)
        case .returned: (kept, error) = (.returned, .unroutable(destination: call.request.destination))
        case .unknown(let cause):
            if let limit = brokerLimit.learn(from: cause), call.request.body.readableBytes > limit {
                // It is this message that the broker closed the channel for.
                let error = AMQPError.messageTooLarge(bytes: call.request.body.readableBytes, limit: limit)
                return published(call, attempt, .refused(error))
            }
            if let text = cause.refusal(
                ofWritingTo: call.options.queue == nil ? settings.names.exchange : "amq.default"
            ) {
                // Rights are looked up when a channel writes to an exchange for the first time, so nothing of it went through.
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
        case .sendAgain(let id, let attempts):
            // A channel that is ending refuses at once; the registry learns of its end a moment later.
            let delay: TimeAmount = attempts < 3 ? .zero : .milliseconds(Int64(min(100, 1 << min(attempts, 7))))
            if delay == .zero {
                enqueue(id)
            } else {
                eventLoop.scheduleTask(in: delay) { [weak self] in self?.enqueue(id) }
            }
        }
    }

    private func decide(
        _ outcome: PendingTable<PendingCall>.Outcome,
        _ call: PendingCall,
        _ attempt: Int
    ) -> PendingTable<PendingCall>.Decision {
        release { $0.pending.outcome(outcome, of: call.id, attempt: attempt) }
    }

    /// Lets a call that may be sent again wait for its next attempt, or ends it when there is no time for that.
    func pause(_ retry: PendingTable<PendingCall>.Retry, _ error: RPCError) {
        let delay = retry.call.options.retry.delay(after: retry.attempts)
        counters.retried()
        guard CompactInstant.now + delay < retry.call.deadline else {
            if let ending = release({ $0.pending.remove(retry.id) }) {
                ending.call.end(.failed(error.after(ending.doubt)))
            }
            return
        }
        eventLoop.scheduleTask(in: TimeAmount(delay)) { [weak self] in self?.enqueue(retry.id) }
    }

    func enqueue(_ id: RequestID) {
        state.withLock { $0.pending.enqueue(id) }
        sendQueued()
    }

    /// Sends what stands in line, as long as there are channels.
    func sendQueued(first: AMQPChannel? = nil) {
        var given = first
        // A channel is picked only for a call that takes its turn: picked in vain, it would leave every second turn, and with it each
        // attempt of a call that is sent again, to the same one of two.
        while state.withLock({ $0.wantsChannel }), let channel = given ?? registry.pick() {
            given = nil
            let next = state.withLock { state -> Taken? in
                guard let way = state.route(through: channel) else { return nil }
                return state.pending.takeFirstQueued(route: way.route, now: CompactInstant.now)
                    .map { Taken(submission: $0, replyTo: way.replyTo) }
            }
            guard let next else { break }
            send(next, on: channel)
        }
        startWaitingForChannel()
    }

    /// Waits for a channel on behalf of everything in line: one task, however many wait.
    func startWaitingForChannel() {
        let isStarting = state.withLock { state in
            guard !state.isWaitingForChannel, state.wantsChannel else { return false }
            state.isWaitingForChannel = true
            return true
        }
        guard isStarting else { return }
        // Detached: it must not inherit the priority, the cancellation or the locals of a call.
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

extension CallTable.State {
    /// How a reply to a message on this channel reaches us: the name that it is sent to, and the route whose end takes it with it.
    /// `nil`: not at present.
    func route(through channel: AMQPChannel) -> (replyTo: String, route: UInt32)? {
        switch replies {
        case .queue: replyQueue.isConsumed ? (replyQueue.name, 0) : nil
        case .direct: channels[ObjectIdentifier(channel)].map { (RPCReplies.directQueue, $0.number) }
        }
    }
}

extension AMQPError {
    /// The broker's words, if this is its refusal to let the user write to an exchange.
    func refusal(ofWritingTo exchange: String) -> String? {
        guard case .channelClosedByBroker(403, let text) = cause, text.contains("exchange '\(exchange)'") else {
            return nil
        }
        return text
    }
}
