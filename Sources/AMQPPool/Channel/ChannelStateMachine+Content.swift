import NIOCore

/// Messages from the broker, and confirms of published messages.
extension ChannelStateMachine {
    mutating func complete(_ content: ContentAssembly.Content, _ actions: inout [Action]) {
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
        let isClosing = closedError != nil
        // While the channel is closing, the broker requeues deliveries that need an acknowledgement; deliveries without one would be lost.
        if isClosing, consumer?.noAck != true { return }
        guard let consumer, !consumer.isAbandoned else {
            if consumer?.noAck != true, consumer?.isOfStream != true {
                actions.append(.send(.basicReject(deliveryTag: deliveryTag, requeue: true)))
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
                actions.append(.send(.basicAck(deliveryTag: deliveryTag, multiple: false)))
            } else if !consumer.noAck {
                actions.append(.send(.basicReject(deliveryTag: deliveryTag, requeue: false)))
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
        answered(content.method, .message(delivery, remaining: remaining), &actions)
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
            if !noAck { actions.append(.send(.basicReject(deliveryTag: deliveryTag, requeue: false))) }
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

    mutating func settle(
        _ tag: UInt64,
        _ multiple: Bool,
        _ outcome: PublishOutcome,
        _ actions: inout [Action]
    ) {
        let isKnown = confirms.settle(tag, multiple: multiple, with: outcome) { actions.append(.settle($0)) }
        if !isKnown { violation("a confirm of message \(tag), which was not published", &actions) }
    }

    mutating func settleAll(_ outcome: PublishOutcome, _ actions: inout [Action]) {
        confirms.settleAll(with: outcome) { actions.append(.settle($0)) }
    }
}
