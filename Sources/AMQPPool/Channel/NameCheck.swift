/// Names that the broker would change or could not take. It strips line breaks from a name that is declared, and not from one that
/// is bound or consumed, so a name with one is never found again.
extension Method {
    /// Why the method is not sent, by the name that is wrong; nil if none is.
    var nameProblem: String? {
        switch self {
        case .exchangeDeclare(let declare):
            problem("exchange", declare.exchange) ?? problem("exchange type", declare.type)
        case .exchangeDelete(let exchange, _): problem("exchange", exchange)
        case .exchangeBind(let destination, let source, let key, _),
            .exchangeUnbind(let destination, let source, let key, _):
            problem("exchange", destination) ?? problem("exchange", source) ?? problem("routing key", key)
        case .queueDeclare(let declare): problem("queue", declare.queue)
        case .queueBind(let queue, let exchange, let key, _), .queueUnbind(let queue, let exchange, let key, _):
            problem("queue", queue) ?? problem("exchange", exchange) ?? problem("routing key", key)
        case .queuePurge(let queue), .queueDelete(let queue, _, _), .basicGet(let queue, _): problem("queue", queue)
        case .basicConsume(let consume):
            problem("queue", consume.queue) ?? problem("consumer tag", consume.consumerTag)
                ?? (consume.consumerTag.isEmpty ? "the consumer tag is empty; nil makes one up" : nil)
        case .basicCancel(let tag, _): problem("consumer tag", tag)
        case .basicPublish(let exchange, let key, _): problem("exchange", exchange) ?? problem("routing key", key)
        case .connectionStart, .connectionStartOK, .connectionSecure, .connectionSecureOK, .connectionTune,
            .connectionTuneOK, .connectionOpen, .connectionOpenOK, .connectionClose, .connectionCloseOK,
            .connectionBlocked, .connectionUnblocked, .connectionUpdateSecret, .connectionUpdateSecretOK,
            .channelOpen, .channelOpenOK, .channelFlow, .channelFlowOK, .channelClose, .channelCloseOK,
            .exchangeDeclareOK, .exchangeDeleteOK, .exchangeBindOK, .exchangeUnbindOK,
            .queueDeclareOK, .queueBindOK, .queueUnbindOK, .queuePurgeOK, .queueDeleteOK,
            .basicQos, .basicQosOK, .basicConsumeOK, .basicCancelOK, .basicReturn, .basicDeliver,
            .basicGetOK, .basicGetEmpty, .basicAck, .basicReject, .basicNack, .basicRecover, .basicRecoverOK,
            .confirmSelect, .confirmSelectOK, .unsupported:
            nil
        }
    }

    private func problem(_ kind: String, _ name: String) -> String? {
        guard name.hasLineBreak else { return nil }
        return "the \(kind) \(name.debugDescription) contains a line break, which the broker would remove"
    }
}

extension String {
    /// A CR or LF. Not as a `Character`: CRLF is one of its own.
    var hasLineBreak: Bool { utf8.contains { $0 == 10 || $0 == 13 } }
}
