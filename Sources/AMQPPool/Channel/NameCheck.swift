/// Checks for names that the broker would change or cannot accept. It strips line breaks from a declared name but not from a bound or
/// consumed one, so a name with a line break is never found again.
extension Method {
    /// Why the method cannot be sent, with the invalid name; `nil` if all names are valid.
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
                ?? (consume.consumerTag.isEmpty ? "the consumer tag is empty; nil generates one" : nil)
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
    /// Whether the string has a CR or LF. Compares bytes, because CRLF is a single `Character`.
    var hasLineBreak: Bool { utf8.contains { $0 == 10 || $0 == 13 } }
}
