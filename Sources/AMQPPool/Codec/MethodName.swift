import CRabbitMQ

extension Method {
    /// `connection.update-secret`, which librabbitmq supports only since 0.12.
    static let updateSecretID: UInt32 = 0x000A_0046
    /// `connection.update-secret-ok`.
    static let updateSecretOKID: UInt32 = 0x000A_0047

    /// `basic.publish`.
    static let publishID = UInt32(AMQP_BASIC_PUBLISH_METHOD)

    /// The class id and the method id, as on the wire.
    var id: UInt32 { identity.id }

    /// The specification's name, for example `basic.publish`.
    var name: String {
        if case .unsupported(let id) = self { return "method \(id >> 16).\(id & 0xFFFF)" }
        return identity.name.description
    }

    private var identity: (id: UInt32, name: StaticString) {
        switch self {
        case .connectionStart: (AMQP_CONNECTION_START_METHOD, "connection.start")
        case .connectionStartOK: (AMQP_CONNECTION_START_OK_METHOD, "connection.start-ok")
        case .connectionSecure: (AMQP_CONNECTION_SECURE_METHOD, "connection.secure")
        case .connectionSecureOK: (AMQP_CONNECTION_SECURE_OK_METHOD, "connection.secure-ok")
        case .connectionTune: (AMQP_CONNECTION_TUNE_METHOD, "connection.tune")
        case .connectionTuneOK: (AMQP_CONNECTION_TUNE_OK_METHOD, "connection.tune-ok")
        case .connectionOpen: (AMQP_CONNECTION_OPEN_METHOD, "connection.open")
        case .connectionOpenOK: (AMQP_CONNECTION_OPEN_OK_METHOD, "connection.open-ok")
        case .connectionClose: (AMQP_CONNECTION_CLOSE_METHOD, "connection.close")
        case .connectionCloseOK: (AMQP_CONNECTION_CLOSE_OK_METHOD, "connection.close-ok")
        case .connectionBlocked: (AMQP_CONNECTION_BLOCKED_METHOD, "connection.blocked")
        case .connectionUnblocked: (AMQP_CONNECTION_UNBLOCKED_METHOD, "connection.unblocked")
        case .channelOpen: (AMQP_CHANNEL_OPEN_METHOD, "channel.open")
        case .channelOpenOK: (AMQP_CHANNEL_OPEN_OK_METHOD, "channel.open-ok")
        case .channelFlow: (AMQP_CHANNEL_FLOW_METHOD, "channel.flow")
        case .channelFlowOK: (AMQP_CHANNEL_FLOW_OK_METHOD, "channel.flow-ok")
        case .channelClose: (AMQP_CHANNEL_CLOSE_METHOD, "channel.close")
        case .channelCloseOK: (AMQP_CHANNEL_CLOSE_OK_METHOD, "channel.close-ok")
        case .exchangeDeclare: (AMQP_EXCHANGE_DECLARE_METHOD, "exchange.declare")
        case .exchangeDeclareOK: (AMQP_EXCHANGE_DECLARE_OK_METHOD, "exchange.declare-ok")
        case .exchangeDelete: (AMQP_EXCHANGE_DELETE_METHOD, "exchange.delete")
        case .exchangeDeleteOK: (AMQP_EXCHANGE_DELETE_OK_METHOD, "exchange.delete-ok")
        case .exchangeBind: (AMQP_EXCHANGE_BIND_METHOD, "exchange.bind")
        case .exchangeBindOK: (AMQP_EXCHANGE_BIND_OK_METHOD, "exchange.bind-ok")
        case .exchangeUnbind: (AMQP_EXCHANGE_UNBIND_METHOD, "exchange.unbind")
        case .exchangeUnbindOK: (AMQP_EXCHANGE_UNBIND_OK_METHOD, "exchange.unbind-ok")
        case .queueDeclare: (AMQP_QUEUE_DECLARE_METHOD, "queue.declare")
        case .queueDeclareOK: (AMQP_QUEUE_DECLARE_OK_METHOD, "queue.declare-ok")
        case .queueBind: (AMQP_QUEUE_BIND_METHOD, "queue.bind")
        case .queueBindOK: (AMQP_QUEUE_BIND_OK_METHOD, "queue.bind-ok")
        case .queueUnbind: (AMQP_QUEUE_UNBIND_METHOD, "queue.unbind")
        case .queueUnbindOK: (AMQP_QUEUE_UNBIND_OK_METHOD, "queue.unbind-ok")
        case .queuePurge: (AMQP_QUEUE_PURGE_METHOD, "queue.purge")
        case .queuePurgeOK: (AMQP_QUEUE_PURGE_OK_METHOD, "queue.purge-ok")
        case .queueDelete: (AMQP_QUEUE_DELETE_METHOD, "queue.delete")
        case .queueDeleteOK: (AMQP_QUEUE_DELETE_OK_METHOD, "queue.delete-ok")
        case .basicQos: (AMQP_BASIC_QOS_METHOD, "basic.qos")
        case .basicQosOK: (AMQP_BASIC_QOS_OK_METHOD, "basic.qos-ok")
        case .basicConsume: (AMQP_BASIC_CONSUME_METHOD, "basic.consume")
        case .basicConsumeOK: (AMQP_BASIC_CONSUME_OK_METHOD, "basic.consume-ok")
        case .basicCancel: (AMQP_BASIC_CANCEL_METHOD, "basic.cancel")
        case .basicCancelOK: (AMQP_BASIC_CANCEL_OK_METHOD, "basic.cancel-ok")
        case .basicPublish: (AMQP_BASIC_PUBLISH_METHOD, "basic.publish")
        case .basicReturn: (AMQP_BASIC_RETURN_METHOD, "basic.return")
        case .basicDeliver: (AMQP_BASIC_DELIVER_METHOD, "basic.deliver")
        case .basicGet: (AMQP_BASIC_GET_METHOD, "basic.get")
        case .basicGetOK: (AMQP_BASIC_GET_OK_METHOD, "basic.get-ok")
        case .basicGetEmpty: (AMQP_BASIC_GET_EMPTY_METHOD, "basic.get-empty")
        case .basicAck: (AMQP_BASIC_ACK_METHOD, "basic.ack")
        case .basicReject: (AMQP_BASIC_REJECT_METHOD, "basic.reject")
        case .basicNack: (AMQP_BASIC_NACK_METHOD, "basic.nack")
        case .basicRecover: (AMQP_BASIC_RECOVER_METHOD, "basic.recover")
        case .basicRecoverOK: (AMQP_BASIC_RECOVER_OK_METHOD, "basic.recover-ok")
        case .confirmSelect: (AMQP_CONFIRM_SELECT_METHOD, "confirm.select")
        case .confirmSelectOK: (AMQP_CONFIRM_SELECT_OK_METHOD, "confirm.select-ok")
        case .connectionUpdateSecret: (Self.updateSecretID, "connection.update-secret")
        case .connectionUpdateSecretOK: (Self.updateSecretOKID, "connection.update-secret-ok")
        case .unsupported(let id): (id, "unsupported")
        }
    }
}

extension Method {
    /// A description of a topology operation with its names; `nil` for other methods.
    var topologyOperation: String? {
        switch self {
        case .exchangeDeclare(let declare): "\(name) of \"\(declare.exchange)\""
        case .exchangeDelete(let exchange, _): "\(name) of \"\(exchange)\""
        case .exchangeBind(let destination, let source, _, _), .exchangeUnbind(let destination, let source, _, _):
            "\(name) of \"\(destination)\" to \"\(source)\""
        case .queueDeclare(let declare): "\(name) of \"\(declare.queue)\""
        case .queueBind(let queue, let exchange, _, _), .queueUnbind(let queue, let exchange, _, _):
            "\(name) of \"\(queue)\" to \"\(exchange)\""
        case .queuePurge(let queue), .queueDelete(let queue, _, _): "\(name) of \"\(queue)\""
        case .basicConsume(let consume): "\(name) of \"\(consume.queue)\""
        case .basicGet(let queue, _): "\(name) of \"\(queue)\""
        case .basicQos, .confirmSelect: name
        case .connectionStart, .connectionStartOK, .connectionSecure, .connectionSecureOK, .connectionTune,
            .connectionTuneOK, .connectionOpen, .connectionOpenOK, .connectionClose, .connectionCloseOK,
            .connectionBlocked, .connectionUnblocked, .connectionUpdateSecret, .connectionUpdateSecretOK,
            .channelOpen, .channelOpenOK, .channelFlow, .channelFlowOK, .channelClose, .channelCloseOK,
            .exchangeDeclareOK, .exchangeDeleteOK, .exchangeBindOK, .exchangeUnbindOK,
            .queueDeclareOK, .queueBindOK, .queueUnbindOK, .queuePurgeOK, .queueDeleteOK,
            .basicQosOK, .basicConsumeOK, .basicCancel, .basicCancelOK, .basicPublish, .basicReturn, .basicDeliver,
            .basicGetOK, .basicGetEmpty, .basicAck, .basicReject, .basicNack, .basicRecover, .basicRecoverOK,
            .confirmSelectOK, .unsupported:
            nil
        }
    }
}

/// A method is described by its name only, because `connection.start-ok` contains the password.
extension Method: CustomStringConvertible, CustomDebugStringConvertible {
    var description: String { name }
    var debugDescription: String { name }
}
