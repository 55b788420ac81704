import AMQPPool
import Logging
import NIOCore
import RPCWire
import Synchronization

/// Sends accepted calls on channels, and handles the outcomes.
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

    /// Handles a returned message that waits for no confirm, on the event loop.
    func returned(_ properties: MessageProperties) {
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
            if call.kind == .call { return }
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
        case .sendAgain(let id, let attempts):
            // A closing channel refuses immediately; the registry learns of its end a moment later.
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

    /// Delays the next attempt of a call that may be sent again, or ends the call when there is no time for that.
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

    /// Sends the calls in the wait queue, as long as there are channels.
    func sendQueued(first: AMQPChannel? = nil) {
        var given = first
        // A channel is picked only for a call that will be sent: picking one in vain would skip every second turn, so that with two
        // channels each retry would get the same one.
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

    /// Waits for a channel on behalf of the wait queue: one task, however many calls wait.
    func startWaitingForChannel() {
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
