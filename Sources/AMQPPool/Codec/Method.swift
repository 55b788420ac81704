/// The AMQP 0-9-1 methods that this client sends or understands, as values (AMQP 0-9-1, sections 1.4 to 1.9).
///
/// Field names are the specification's. Everything is copied out of the decoder's memory, so a method may outlive its frame.
enum Method: Sendable, Equatable {
    // connection
    case connectionStart(ConnectionStart)
    case connectionStartOK(clientProperties: FieldTable, mechanism: String, response: [UInt8], locale: String)
    case connectionSecure(challenge: [UInt8])
    case connectionSecureOK(response: [UInt8])
    case connectionTune(channelMax: UInt16, frameMax: UInt32, heartbeat: UInt16)
    case connectionTuneOK(channelMax: UInt16, frameMax: UInt32, heartbeat: UInt16)
    case connectionOpen(virtualHost: String)
    case connectionOpenOK
    case connectionClose(CloseReason)
    case connectionCloseOK
    case connectionBlocked(reason: String)
    case connectionUnblocked
    case connectionUpdateSecret(newSecret: [UInt8], reason: String)
    case connectionUpdateSecretOK

    // channel
    case channelOpen
    case channelOpenOK
    case channelFlow(active: Bool)
    case channelFlowOK(active: Bool)
    case channelClose(CloseReason)
    case channelCloseOK

    // exchange
    case exchangeDeclare(ExchangeDeclare)
    case exchangeDeclareOK
    case exchangeDelete(exchange: String, ifUnused: Bool)
    case exchangeDeleteOK
    case exchangeBind(destination: String, source: String, routingKey: String, arguments: FieldTable)
    case exchangeBindOK
    case exchangeUnbind(destination: String, source: String, routingKey: String, arguments: FieldTable)
    case exchangeUnbindOK

    // queue
    case queueDeclare(QueueDeclare)
    case queueDeclareOK(queue: String, messageCount: UInt32, consumerCount: UInt32)
    case queueBind(queue: String, exchange: String, routingKey: String, arguments: FieldTable)
    case queueBindOK
    case queueUnbind(queue: String, exchange: String, routingKey: String, arguments: FieldTable)
    case queueUnbindOK
    case queuePurge(queue: String)
    case queuePurgeOK(messageCount: UInt32)
    case queueDelete(queue: String, ifUnused: Bool, ifEmpty: Bool)
    case queueDeleteOK(messageCount: UInt32)

    // basic
    case basicQos(prefetchSize: UInt32, prefetchCount: UInt16, global: Bool)
    case basicQosOK
    case basicConsume(BasicConsume)
    case basicConsumeOK(consumerTag: String)
    case basicCancel(consumerTag: String, noWait: Bool)
    case basicCancelOK(consumerTag: String)
    case basicPublish(exchange: String, routingKey: String, mandatory: Bool)
    case basicReturn(replyCode: UInt16, replyText: String, exchange: String, routingKey: String)
    case basicDeliver(consumerTag: String, deliveryTag: UInt64, redelivered: Bool, exchange: String, routingKey: String)
    case basicGet(queue: String, noAck: Bool)
    case basicGetOK(
        deliveryTag: UInt64,
        redelivered: Bool,
        exchange: String,
        routingKey: String,
        messageCount: UInt32
    )
    case basicGetEmpty
    case basicAck(deliveryTag: UInt64, multiple: Bool)
    case basicReject(deliveryTag: UInt64, requeue: Bool)
    case basicNack(deliveryTag: UInt64, multiple: Bool, requeue: Bool)
    case basicRecover(requeue: Bool)
    case basicRecoverOK

    // confirm
    case confirmSelect
    case confirmSelectOK

    /// A method that this client does not use (`tx`, `access`, ...), with its class and method id.
    case unsupported(id: UInt32)

    /// Whether a content header and body frames follow this method.
    var hasContent: Bool {
        switch self {
        case .basicPublish, .basicReturn, .basicDeliver, .basicGetOK: true
        case .connectionStart, .connectionStartOK, .connectionSecure, .connectionSecureOK, .connectionTune,
            .connectionTuneOK, .connectionOpen, .connectionOpenOK, .connectionClose, .connectionCloseOK,
            .connectionBlocked, .connectionUnblocked, .connectionUpdateSecret, .connectionUpdateSecretOK,
            .channelOpen, .channelOpenOK, .channelFlow, .channelFlowOK, .channelClose, .channelCloseOK,
            .exchangeDeclare, .exchangeDeclareOK, .exchangeDelete, .exchangeDeleteOK, .exchangeBind, .exchangeBindOK,
            .exchangeUnbind, .exchangeUnbindOK, .queueDeclare, .queueDeclareOK, .queueBind, .queueBindOK,
            .queueUnbind, .queueUnbindOK, .queuePurge, .queuePurgeOK, .queueDelete, .queueDeleteOK, .basicQos,
            .basicQosOK, .basicConsume, .basicConsumeOK, .basicCancel, .basicCancelOK, .basicGet, .basicGetEmpty,
            .basicAck, .basicReject, .basicNack, .basicRecover, .basicRecoverOK, .confirmSelect, .confirmSelectOK,
            .unsupported:
            false
        }
    }
}

/// The broker's `connection.start`.
struct ConnectionStart: Sendable, Equatable {
    var versionMajor: UInt8
    var versionMinor: UInt8
    var serverProperties: FieldTable
    /// SASL mechanisms, separated by spaces.
    var mechanisms: String
    var locales: String
}

/// Why a connection or channel is closed: the reply code and text, and the method that caused it (0 for none).
struct CloseReason: Sendable, Equatable {
    var replyCode: UInt16
    var replyText: String
    var classID: UInt16 = 0
    var methodID: UInt16 = 0

    /// The id of the method that caused it, like ``Method/id``.
    var cause: UInt32 { UInt32(classID) << 16 | UInt32(methodID) }
}

struct ExchangeDeclare: Sendable, Equatable {
    var exchange: String
    var type: String
    var passive = false
    var durable = false
    var autoDelete = false
    var isInternal = false
    var arguments = FieldTable()
}

struct QueueDeclare: Sendable, Equatable {
    var queue: String
    var passive = false
    var durable = false
    var exclusive = false
    var autoDelete = false
    var arguments = FieldTable()
}

struct BasicConsume: Sendable, Equatable {
    var queue: String
    var consumerTag: String
    var noAck = false
    var exclusive = false
    var arguments = FieldTable()
}
