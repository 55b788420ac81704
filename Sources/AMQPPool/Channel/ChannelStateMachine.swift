import DequeModule
import NIOCore

/// The state machine of one AMQP channel, without I/O: operations, content, confirms, consumers, closing.
///
/// Every input appends the resulting actions, in the order in which they have to be performed.
struct ChannelStateMachine {
    enum Action {
        case send(Method)
        /// Completes the operation with this id, exactly once.
        case complete(UInt64, Result<Reply, AMQPError>)
        /// Delivers the outcome of a message to its publisher, exactly once.
        case settle(ConfirmTracker.Settlement)
        case deliver(ChannelConsumer, Delivery)
        /// The broker cancelled the consumer.
        case consumerCancelled(ChannelConsumer)
        /// A message was not accepted, and was rejected without requeue if possible.
        case deliveryRefused(RefusedDelivery)
        /// Like ``deliveryRefused(_:)``, but the consumer settles the delivery.
        case handOverRefused(ChannelConsumer, RefusedDelivery)
        /// A returned message that matches no unconfirmed message.
        case returnUnmatched(MessageProperties)
        /// The channel has ended: the entries in the outbox were not written.
        case sealed(AMQPError)
        /// The channel is closed, and everything pending has been completed. Once.
        case closed(AMQPError)
        /// The broker has released the channel's id. Once.
        case released
        /// The broker violated the protocol: the connection has to be closed.
        case failConnection(AMQPError)
    }

    enum Reply: Sendable {
        case method(Method)
        case message(Delivery, remaining: UInt32)
    }

    enum Phase {
        case opening
        case open
        /// We sent channel.close. `crossed`: the broker sent its own at the same time, because of this error. `isOver`: the users have been
        /// notified; whatever still arrives is ignored.
        case closing(crossed: AMQPError?, isOver: Bool)
        case closed(AMQPError)
    }

    private var phase = Phase.opening
    private var slots: OperationSlots
    private var content: ContentAssembly
    private var confirms = ConfirmTracker()
    private var unsettled = UnsettledTags()
    var consumers: [String: ChannelConsumer] = [:]
    private var isFlowing = true
    private let maximumUnconfirmed: Int
    /// Whether the broker numbers the channel's messages: true as soon as confirm.select is written.
    private(set) var isConfirming = false
    /// Whether the broker closed the channel because of a message instead of an operation.
    private(set) var isClosedForPublish = false

    init(maximumUnconfirmed: Int, maximumWaitingOperations: Int, maximumIncomingMessageSize: Int) {
        self.maximumUnconfirmed = maximumUnconfirmed
        slots = OperationSlots(limit: maximumWaitingOperations)
        content = ContentAssembly(maximumBodySize: maximumIncomingMessageSize)
    }

    // MARK: This side's inputs

    /// Why nothing can be sent any more, `nil` if it can.
    var closedError: AMQPError? {
        switch phase {
        case .opening, .open: nil
        case .closing(let crossed, _): crossed ?? .channelClosed
        case .closed(let error): error
        }
    }

    /// How many messages may be written now: 0 unless the channel is open and not stopped by the broker, and bounded by the limit of
    /// unconfirmed messages.
    @inline(__always)
    var publishRoom: Int {
        guard case .open = phase, isFlowing else { return 0 }
        return isConfirming ? max(0, maximumUnconfirmed - confirms.count) : .max
    }

    /// The number of messages written and not confirmed.
    var unconfirmed: Int { confirms.count }

    /// Records the messages among these entries, except those at these indices, right before they are written.
    mutating func published(
        _ entries: ArraySlice<ChannelOutbox.Entry>,
        but exceptions: [(index: Int, WriteBatch.Written.Exception)] = []
    ) {
        guard isConfirming else { return }
        var exceptions = exceptions[...]
        for index in entries.indices {
            if exceptions.first?.index == index {
                exceptions.removeFirst()
            } else if case .publish(let publish) = entries[index] {
                confirms.append(publish)
            }
        }
    }

    /// Combines consecutive acknowledgements among entries that are about to be written.
    ///
    /// - Returns: By how many entries there are fewer.
    mutating func combineAcknowledgements(_ entries: inout [ChannelOutbox.Entry]) -> Int {
        unsettled.combineAcknowledgements(&entries)
    }

    /// Sends a request in its turn. The first one must be `channel.open`.
    mutating func perform(_ id: UInt64, _ request: Method, _ actions: inout [Action]) {
        if let error = closedError {
            actions.append(.complete(id, .failure(.notSent(error))))
            return
        }
        switch slots.admit(id, request) {
        case .send: send(request, &actions)
        case .queued: break
        case .refused:
            if case .basicConsume(let consume) = request { consumers[consume.consumerTag] = nil }
            actions.append(.complete(id, .failure(.notSent(.overloaded("operations waiting on one channel")))))
        }
    }

    /// Starts a consumer. It is registered before the request is sent, because its first delivery may arrive before the answer.
    mutating func consume(_ id: UInt64, _ consume: BasicConsume, _ consumer: ChannelConsumer, _ actions: inout [Action])
    {
        guard consumers[consume.consumerTag] == nil else {
            let error = AMQPError.invalidArgument("consumer tag \"\(consume.consumerTag)\" is in use on this channel")
            actions.append(.complete(id, .failure(.notSent(error))))
            return
        }
        if closedError == nil { consumers[consume.consumerTag] = consumer }
        perform(id, .basicConsume(consume), &actions)
    }

    /// Cancels a consumer. If the broker has cancelled it in the meantime, this succeeds.
    mutating func cancelConsumer(_ id: UInt64, tag: String, _ actions: inout [Action]) {
        guard closedError != nil || consumers[tag] != nil else {
            actions.append(.complete(id, .success(.method(.basicCancelOK(consumerTag: tag)))))
            return
        }
        perform(id, .basicCancel(consumerTag: tag, noWait: false), &actions)
    }

    /// The caller no longer waits for the operation, because of `error` (a deadline, a cancelled task).
    mutating func abandon(_ id: UInt64, _ error: AMQPError, _ actions: inout [Action]) {
        switch slots.abandon(id) {
        case .unknown: break
        case .withdrawn(let request):
            if case .basicConsume(let consume) = request { consumers[consume.consumerTag] = nil }
            actions.append(.complete(id, .failure(.notSent(error))))
        case .outstanding(let request):
            actions.append(.complete(id, .failure(error)))
            switch request {
            case .basicConsume(let consume): consumers[consume.consumerTag]?.isAbandoned = true
            case .channelOpen: close(&actions)
            case .connectionStart, .connectionStartOK, .connectionSecure, .connectionSecureOK, .connectionTune,
                .connectionTuneOK, .connectionOpen, .connectionOpenOK, .connectionClose, .connectionCloseOK,
                .connectionBlocked, .connectionUnblocked, .connectionUpdateSecret, .connectionUpdateSecretOK,
                .channelOpenOK, .channelFlow, .channelFlowOK, .channelClose, .channelCloseOK, .exchangeDeclare,
                .exchangeDeclareOK, .exchangeDelete, .exchangeDeleteOK, .exchangeBind, .exchangeBindOK,
                .exchangeUnbind, .exchangeUnbindOK, .queueDeclare, .queueDeclareOK, .queueBind, .queueBindOK,
                .queueUnbind, .queueUnbindOK, .queuePurge, .queuePurgeOK, .queueDelete, .queueDeleteOK, .basicQos,
                .basicQosOK, .basicConsumeOK, .basicCancel, .basicCancelOK, .basicPublish, .basicReturn,
                .basicDeliver, .basicGet, .basicGetOK, .basicGetEmpty, .basicAck, .basicReject, .basicNack,
                .basicRecover, .basicRecoverOK, .confirmSelect, .confirmSelectOK, .unsupported:
                break
            }
        }
    }

    /// Begins the closing handshake.
    mutating func close(_ actions: inout [Action]) {
        switch phase {
        case .closing, .closed: return
        case .opening, .open: break
        }
        phase = .closing(crossed: nil, isOver: false)
        failOperations(.channelClosed, &actions)
        actions.append(.send(.channelClose(CloseReason(replyCode: 200, replyText: "closed by the client"))))
    }

    /// The broker did not answer channel.close in time. The id stays in use until it does.
    mutating func closeTimedOut(after timeout: Duration, _ actions: inout [Action]) {
        guard case .closing(let crossed, isOver: false) = phase else { return }
        let error = crossed ?? .timedOut(operation: "channel.close", after: timeout)
        phase = .closing(crossed: crossed, isOver: true)
        settleAll(.unknown(error), &actions)
        consumers.removeAll()
        actions.append(.closed(error))
    }

    /// The connection begins its closing handshake, which replaces the channel's own.
    mutating func connectionClosing(_ actions: inout [Action]) {
        switch phase {
        case .closing, .closed: return
        case .opening, .open: break
        }
        phase = .closing(crossed: nil, isOver: false)
        failOperations(.connectionClosed, &actions)
    }

    /// The connection has ended.
    ///
    /// - Parameters:
    ///   - isClean: This side closed it, and the broker acknowledged that.
    ///   - cause: The id of the method because of which the broker closed it; 0 if it named none, `nil` if the broker did not close it.
    mutating func connectionEnded(
        _ error: AMQPError,
        isClean: Bool,
        cause: UInt32? = nil,
        _ actions: inout [Action]
    ) {
        let error = cause.flatMap { topologyRefusal($0, error) } ?? error
        switch phase {
        case .closed, .closing(_, isOver: true):
            phase = .closed(closedError ?? error)
            return
        case .closing(let crossed?, _):
            phase = .closed(crossed)
            settleAll(.unknown(crossed), &actions)
            actions.append(.closed(crossed))
        case .closing(nil, _), .opening, .open:
            phase = .closed(error)
            actions.append(.sealed(error))
            failOperations(error, &actions)
            settleAll(isClean ? .presumedDelivered : .unknown(error), &actions)
            actions.append(.closed(error))
        }
        consumers.removeAll()
    }

    // MARK: The broker's inputs

    /// Processes consecutive frames, up to the first that has to end the connection.
    mutating func receive(_ frames: [Frame], _ actions: inout [Action]) {
        for frame in frames {
            switch frame {
            case .method(_, let method): receive(method, &actions)
            case .header(_, let bodySize, let properties): receiveHeader(bodySize: bodySize, properties, &actions)
            case .body(_, let bytes): receiveBody(bytes, &actions)
            case .heartbeat: break
            }
            if case .failConnection? = actions.last { return }
        }
    }

    mutating func receive(_ method: Method, _ actions: inout [Action]) {
        if case .closed = phase {
            return violation("\(method.name) on a closed channel", &actions)
        }
        guard content.isIdle else {
            return violation("\(method.name) in the middle of a message", &actions)
        }
        switch method {
        case .basicDeliver, .basicReturn, .basicGetOK:
            do {
                try content.begin(method)
            } catch {
                violation(error.description, &actions)
            }
        case .basicAck(let tag, let multiple): settle(tag, multiple, .confirmed, &actions)
        case .basicNack(let tag, let multiple, _): settle(tag, multiple, .nacked, &actions)
        case .basicCancel(let tag, let noWait):
            if !noWait, closedError == nil { actions.append(.send(.basicCancelOK(consumerTag: tag))) }
            if let consumer = consumers.removeValue(forKey: tag), !consumer.isAbandoned, closedError == nil {
                actions.append(.consumerCancelled(consumer))
            }
        case .channelFlow(let active):
            isFlowing = active
            if closedError == nil { actions.append(.send(.channelFlowOK(active: active))) }
        case .channelClose(let reason): closedByBroker(reason, &actions)
        case .channelCloseOK: closeAcknowledged(&actions)
        case .connectionStart, .connectionStartOK, .connectionSecure, .connectionSecureOK, .connectionTune,
            .connectionTuneOK, .connectionOpen, .connectionOpenOK, .connectionClose, .connectionCloseOK,
            .connectionBlocked, .connectionUnblocked, .connectionUpdateSecret, .connectionUpdateSecretOK,
            .channelOpen, .channelOpenOK, .channelFlowOK, .exchangeDeclare, .exchangeDeclareOK, .exchangeDelete,
            .exchangeDeleteOK, .exchangeBind, .exchangeBindOK, .exchangeUnbind, .exchangeUnbindOK, .queueDeclare,
            .queueDeclareOK, .queueBind, .queueBindOK, .queueUnbind, .queueUnbindOK, .queuePurge, .queuePurgeOK,
            .queueDelete, .queueDeleteOK, .basicQos, .basicQosOK, .basicConsume, .basicConsumeOK, .basicCancelOK,
            .basicPublish, .basicGet, .basicGetEmpty, .basicReject, .basicRecover, .basicRecoverOK, .confirmSelect,
            .confirmSelectOK, .unsupported:
            answered(method, .method(method), &actions)
        }
    }

    mutating func receiveHeader(
        bodySize: UInt64,
        _ properties: Result<MessageProperties, RefusedProperties>,
        _ actions: inout [Action]
    ) {
        do {
            if let content = try content.header(bodySize: bodySize, properties) { complete(content, &actions) }
        } catch {
            violation(error.description, &actions)
        }
    }

    mutating func receiveBody(_ bytes: ByteBuffer, _ actions: inout [Action]) {
        do {
            if let content = try content.body(bytes) { complete(content, &actions) }
        } catch {
            violation(error.description, &actions)
        }
    }
}

// MARK: - Operations and closing

extension ChannelStateMachine {
    private mutating func send(_ request: Method, _ actions: inout [Action]) {
        if case .confirmSelect = request { isConfirming = true }
        actions.append(.send(request))
    }

    private mutating func answered(_ method: Method, _ reply: Reply, _ actions: inout [Action]) {
        // After channel.close nobody needs the answers to earlier requests.
        if case .closing = phase { return }
        guard let slot = slots.answer(method) else {
            return violation("unexpected \(method.name)", &actions)
        }
        switch method {
        case .channelOpenOK: phase = .open
        case .basicCancelOK(let tag): consumers[tag] = nil
        case .basicConsumeOK(let tag) where !slot.isWanted:
            perform(OperationSlots.internalID, .basicCancel(consumerTag: tag, noWait: false), &actions)
        case .connectionStart, .connectionStartOK, .connectionSecure, .connectionSecureOK, .connectionTune,
            .connectionTuneOK, .connectionOpen, .connectionOpenOK, .connectionClose, .connectionCloseOK,
            .connectionBlocked, .connectionUnblocked, .connectionUpdateSecret, .connectionUpdateSecretOK,
            .channelOpen, .channelFlow, .channelFlowOK, .channelClose, .channelCloseOK, .exchangeDeclare,
            .exchangeDeclareOK, .exchangeDelete, .exchangeDeleteOK, .exchangeBind, .exchangeBindOK, .exchangeUnbind,
            .exchangeUnbindOK, .queueDeclare, .queueDeclareOK, .queueBind, .queueBindOK, .queueUnbind, .queueUnbindOK,
            .queuePurge, .queuePurgeOK, .queueDelete, .queueDeleteOK, .basicQos, .basicQosOK, .basicConsume,
            .basicConsumeOK, .basicCancel, .basicPublish, .basicReturn, .basicDeliver, .basicGet, .basicGetOK,
            .basicGetEmpty, .basicAck, .basicReject, .basicNack, .basicRecover, .basicRecoverOK, .confirmSelect,
            .confirmSelectOK, .unsupported:
            break
        }
        if slot.isWanted {
            actions.append(.complete(slot.id, .success(reply)))
        } else if case .message(let delivery, _) = reply, case .basicGet(_, noAck: false) = slot.request {
            settle(.basicReject(deliveryTag: delivery.deliveryTag, requeue: true), delivery.deliveryTag, &actions)
        }
        if let next = slots.next() { send(next, &actions) }
    }

    /// The error of the connection as a refusal of this channel's outstanding request, if it is one.
    private func topologyRefusal(_ cause: UInt32, _ error: AMQPError) -> AMQPError? {
        // 320: the connection was closed by an operator, or the broker is shutting down.
        guard let request = slots.outstanding?.request, let operation = request.topologyOperation,
            case .connectionClosedByBroker(let code, let text) = error,
            cause == request.id || (cause == 0 && code != 320)
        else { return nil }
        return .topologyRefused(operation: operation, code: code, text: text)
    }

    private mutating func failOperations(_ error: AMQPError, _ actions: inout [Action]) {
        let (sent, unsent) = slots.removeAll()
        if let sent, sent.isWanted { actions.append(.complete(sent.id, .failure(error))) }
        for slot in unsent where slot.isWanted { actions.append(.complete(slot.id, .failure(.notSent(error)))) }
    }

    private mutating func closedByBroker(_ reason: CloseReason, _ actions: inout [Action]) {
        let error = AMQPError.channelClosedByBroker(code: reason.replyCode, text: reason.replyText)
        actions.append(.send(.channelCloseOK))
        switch phase {
        case .closing(_, let isOver):
            // Both sides closed: the broker also answers our close, and only then is the id free.
            phase = .closing(crossed: error, isOver: isOver)
        case .opening, .open:
            phase = .closed(error)
            if reason.cause == Method.publishID {
                isClosedForPublish = true
                // Other users of the channel must not see the error of this message.
                actions.append(.sealed(.lostForAnother))
                failOperations(.lostForAnother, &actions)
                confirms.settleAll(refused: PublishRefusal(reason), error) { actions.append(.settle($0)) }
            } else {
                actions.append(.sealed(error))
                failOperations(error, &actions)
                settleAll(.unknown(error), &actions)
            }
            consumers.removeAll()
            actions.append(.closed(error))
            actions.append(.released)
        case .closed: break
        }
    }

    private mutating func closeAcknowledged(_ actions: inout [Action]) {
        guard case .closing(let crossed, let isOver) = phase else {
            return violation("channel.close-ok without a close", &actions)
        }
        phase = .closed(crossed ?? .channelClosed)
        if !isOver {
            settleAll(crossed.map { .unknown($0) } ?? .presumedDelivered, &actions)
            consumers.removeAll()
            actions.append(.closed(crossed ?? .channelClosed))
        }
        actions.append(.released)
    }

    private func violation(_ what: String, _ actions: inout [Action]) {
        actions.append(.failConnection(.protocolViolation(what)))
    }
}

/// Messages from the broker, and confirms of published messages.
extension ChannelStateMachine {
    private mutating func complete(_ content: ContentAssembly.Content, _ actions: inout [Action]) {
        switch content.method {
        case .basicDeliver(let tag, let deliveryTag, let redelivered, let exchange, let routingKey):
            deliver(tag, deliveryTag, redelivered, exchange, routingKey, content, &actions)
        case .basicReturn(let code, let text, let exchange, let routingKey):
            let properties = try? content.properties.get()
            let found = confirms.returned(
                exchange: exchange,
                routingKey: routingKey,
                properties: properties,
                body: content.body,
                outcome: .returned(code: code, text: text)
            ) { actions.append(.settle($0)) }
            if !found { actions.append(.returnUnmatched(properties ?? MessageProperties())) }
        case .basicGetOK(let deliveryTag, let redelivered, let exchange, let routingKey, let remaining):
            got(deliveryTag, redelivered, exchange, routingKey, remaining, content, &actions)
        case .connectionStart, .connectionStartOK, .connectionSecure, .connectionSecureOK, .connectionTune,
            .connectionTuneOK, .connectionOpen, .connectionOpenOK, .connectionClose, .connectionCloseOK,
            .connectionBlocked, .connectionUnblocked, .connectionUpdateSecret, .connectionUpdateSecretOK,
            .channelOpen, .channelOpenOK, .channelFlow, .channelFlowOK, .channelClose, .channelCloseOK,
            .exchangeDeclare, .exchangeDeclareOK, .exchangeDelete, .exchangeDeleteOK, .exchangeBind, .exchangeBindOK,
            .exchangeUnbind, .exchangeUnbindOK, .queueDeclare, .queueDeclareOK, .queueBind, .queueBindOK,
            .queueUnbind, .queueUnbindOK, .queuePurge, .queuePurgeOK, .queueDelete, .queueDeleteOK, .basicQos,
            .basicQosOK, .basicConsume, .basicConsumeOK, .basicCancel, .basicCancelOK, .basicPublish, .basicGet,
            .basicGetEmpty, .basicAck, .basicReject, .basicNack, .basicRecover, .basicRecoverOK, .confirmSelect,
            .confirmSelectOK, .unsupported:
            break
        }
    }

    private mutating func deliver(
        _ tag: String,
        _ deliveryTag: UInt64,
        _ redelivered: Bool,
        _ exchange: String,
        _ routingKey: String,
        _ content: ContentAssembly.Content,
        _ actions: inout [Action]
    ) {
        let consumer = consumers[tag]
        unsettled.delivered(deliveryTag)
        if consumer?.noAck == true { unsettled.settled(deliveryTag) }
        let isClosing = closedError != nil
        // While the channel is closing, the broker requeues deliveries that need an acknowledgement; deliveries without one would be lost.
        if isClosing, consumer?.noAck != true { return }
        guard let consumer, !consumer.isAbandoned else {
            if consumer?.noAck != true, consumer?.isOfStream != true {
                settle(.basicReject(deliveryTag: deliveryTag, requeue: true), deliveryTag, &actions)
            }
            return
        }
        switch content.properties {
        case .success(let properties):
            let delivery = Delivery(
                consumerTag: tag,
                deliveryTag: deliveryTag,
                redelivered: redelivered,
                exchange: exchange,
                routingKey: routingKey,
                properties: properties,
                body: content.body
            )
            actions.append(.deliver(consumer, delivery))
        case .failure(let refusal):
            let refused = RefusedDelivery(
                queue: consumer.queue,
                deliveryTag: deliveryTag,
                redelivered: redelivered,
                exchange: exchange,
                routingKey: routingKey,
                properties: refusal.readable,
                reason: refusal.description
            )
            if consumer.onRefused != nil { return actions.append(.handOverRefused(consumer, refused)) }
            if consumer.isOfStream {
                settle(.basicAck(deliveryTag: deliveryTag, multiple: false), deliveryTag, &actions)
            } else if !consumer.noAck {
                settle(.basicReject(deliveryTag: deliveryTag, requeue: false), deliveryTag, &actions)
            }
            actions.append(.deliveryRefused(refused))
        }
    }

    private mutating func got(
        _ deliveryTag: UInt64,
        _ redelivered: Bool,
        _ exchange: String,
        _ routingKey: String,
        _ remaining: UInt32,
        _ content: ContentAssembly.Content,
        _ actions: inout [Action]
    ) {
        guard case .success(let properties) = content.properties else {
            return refuseGot(deliveryTag, redelivered, exchange, routingKey, content, &actions)
        }
        let delivery = Delivery(
            consumerTag: "",
            deliveryTag: deliveryTag,
            redelivered: redelivered,
            exchange: exchange,
            routingKey: routingKey,
            properties: properties,
            body: content.body
        )
        if case .basicGet(_, let noAck) = slots.outstanding?.request { fetched(deliveryTag, noAck: noAck) }
        answered(content.method, .message(delivery, remaining: remaining), &actions)
    }

    private mutating func fetched(_ deliveryTag: UInt64, noAck: Bool) {
        unsettled.delivered(deliveryTag)
        if noAck { unsettled.settled(deliveryTag) }
    }

    /// Settles a delivery that is not handed on.
    private mutating func settle(_ method: Method, _ deliveryTag: UInt64, _ actions: inout [Action]) {
        unsettled.settled(deliveryTag)
        actions.append(.send(method))
    }

    private mutating func refuseGot(
        _ deliveryTag: UInt64,
        _ redelivered: Bool,
        _ exchange: String,
        _ routingKey: String,
        _ content: ContentAssembly.Content,
        _ actions: inout [Action]
    ) {
        guard case .failure(let refusal) = content.properties, closedError == nil else { return }
        guard let slot = slots.answer(content.method) else {
            return violation("unexpected \(content.method.name)", &actions)
        }
        var queue = ""
        if case .basicGet(let name, let noAck) = slot.request {
            queue = name
            fetched(deliveryTag, noAck: noAck)
            if !noAck { settle(.basicReject(deliveryTag: deliveryTag, requeue: false), deliveryTag, &actions) }
        }
        actions.append(
            .deliveryRefused(
                RefusedDelivery(
                    queue: queue,
                    deliveryTag: deliveryTag,
                    redelivered: redelivered,
                    exchange: exchange,
                    routingKey: routingKey,
                    properties: refusal.readable,
                    reason: refusal.description
                )
            )
        )
        if slot.isWanted {
            actions.append(.complete(slot.id, .failure(.propertiesRefused(refusal.description))))
        }
        if let next = slots.next() { send(next, &actions) }
    }

    private mutating func settle(
        _ tag: UInt64,
        _ multiple: Bool,
        _ outcome: PublishOutcome,
        _ actions: inout [Action]
    ) {
        let isKnown = confirms.settle(tag, multiple: multiple, with: outcome) { actions.append(.settle($0)) }
        if !isKnown { violation("a confirm of message \(tag), which was not published", &actions) }
    }

    private mutating func settleAll(_ outcome: PublishOutcome, _ actions: inout [Action]) {
        confirms.settleAll(with: outcome) { actions.append(.settle($0)) }
    }
}
