import CRabbitMQ
import NIOCore

extension CDecoder {
    /// Decodes a method's arguments and copies them. `nil` if librabbitmq rejects them.
    mutating func decodeMethod(_ id: UInt32, _ arguments: UnsafeRawBufferPointer) -> Method? {
        switch id {
        case AMQP_BASIC_DELIVER_METHOD:
            guard let decoded = decode(id, arguments, as: amqp_basic_deliver_t.self)
            else { return nil }
            return .basicDeliver(
                consumerTag: consumerTag.text(decoded.consumer_tag),
                deliveryTag: decoded.delivery_tag,
                redelivered: decoded.redelivered != 0,
                exchange: decoded.exchange.text,
                routingKey: routingKey.text(decoded.routing_key)
            )
        case AMQP_BASIC_ACK_METHOD:
            return decode(id, arguments, as: amqp_basic_ack_t.self).map {
                .basicAck(deliveryTag: $0.delivery_tag, multiple: $0.multiple != 0)
            }
        case AMQP_BASIC_NACK_METHOD:
            return decode(id, arguments, as: amqp_basic_nack_t.self).map {
                .basicNack(deliveryTag: $0.delivery_tag, multiple: $0.multiple != 0, requeue: $0.requeue != 0)
            }
        case AMQP_BASIC_REJECT_METHOD:
            return decode(id, arguments, as: amqp_basic_reject_t.self).map {
                .basicReject(deliveryTag: $0.delivery_tag, requeue: $0.requeue != 0)
            }
        case AMQP_BASIC_RETURN_METHOD:
            return decode(id, arguments, as: amqp_basic_return_t.self).map {
                .basicReturn(
                    replyCode: $0.reply_code,
                    replyText: $0.reply_text.repairedString,
                    exchange: $0.exchange.text,
                    routingKey: $0.routing_key.text
                )
            }
        case AMQP_BASIC_GET_OK_METHOD:
            return decode(id, arguments, as: amqp_basic_get_ok_t.self).map {
                .basicGetOK(
                    deliveryTag: $0.delivery_tag,
                    redelivered: $0.redelivered != 0,
                    exchange: $0.exchange.text,
                    routingKey: $0.routing_key.text,
                    messageCount: $0.message_count
                )
            }
        case AMQP_BASIC_GET_EMPTY_METHOD:
            return decode(id, arguments, as: amqp_basic_get_empty_t.self).map { _ in .basicGetEmpty }
        case AMQP_BASIC_CONSUME_OK_METHOD:
            return decode(id, arguments, as: amqp_basic_consume_ok_t.self).map { decoded in
                .basicConsumeOK(consumerTag: decoded.consumer_tag.text)
            }
        case AMQP_BASIC_CANCEL_METHOD:
            return decode(id, arguments, as: amqp_basic_cancel_t.self).map { decoded in
                .basicCancel(consumerTag: decoded.consumer_tag.text, noWait: decoded.nowait != 0)
            }
        case AMQP_BASIC_CANCEL_OK_METHOD:
            return decode(id, arguments, as: amqp_basic_cancel_ok_t.self).map { decoded in
                .basicCancelOK(consumerTag: decoded.consumer_tag.text)
            }
        case AMQP_CHANNEL_OPEN_OK_METHOD:
            return decode(id, arguments, as: amqp_channel_open_ok_t.self).map { _ in .channelOpenOK }
        case AMQP_CHANNEL_FLOW_METHOD:
            return decode(id, arguments, as: amqp_channel_flow_t.self).map { .channelFlow(active: $0.active != 0) }
        case AMQP_CHANNEL_FLOW_OK_METHOD:
            return decode(id, arguments, as: amqp_channel_flow_ok_t.self).map { .channelFlowOK(active: $0.active != 0) }
        case AMQP_CHANNEL_CLOSE_METHOD:
            return decode(id, arguments, as: amqp_channel_close_t.self).map {
                .channelClose(
                    CloseReason(
                        replyCode: $0.reply_code,
                        replyText: $0.reply_text.repairedString,
                        classID: $0.class_id,
                        methodID: $0.method_id
                    )
                )
            }
        case AMQP_QUEUE_DECLARE_OK_METHOD:
            return decode(id, arguments, as: amqp_queue_declare_ok_t.self).map {
                .queueDeclareOK(
                    queue: $0.queue.text,
                    messageCount: $0.message_count,
                    consumerCount: $0.consumer_count
                )
            }
        case AMQP_QUEUE_PURGE_OK_METHOD:
            return decode(id, arguments, as: amqp_queue_purge_ok_t.self).map {
                .queuePurgeOK(messageCount: $0.message_count)
            }
        case AMQP_QUEUE_DELETE_OK_METHOD:
            return decode(id, arguments, as: amqp_queue_delete_ok_t.self).map {
                .queueDeleteOK(messageCount: $0.message_count)
            }
        case AMQP_CHANNEL_CLOSE_OK_METHOD: return .channelCloseOK
        case AMQP_EXCHANGE_DECLARE_OK_METHOD: return .exchangeDeclareOK
        case AMQP_EXCHANGE_DELETE_OK_METHOD: return .exchangeDeleteOK
        case AMQP_EXCHANGE_BIND_OK_METHOD: return .exchangeBindOK
        case AMQP_EXCHANGE_UNBIND_OK_METHOD: return .exchangeUnbindOK
        case AMQP_QUEUE_BIND_OK_METHOD: return .queueBindOK
        case AMQP_QUEUE_UNBIND_OK_METHOD: return .queueUnbindOK
        case AMQP_BASIC_QOS_OK_METHOD: return .basicQosOK
        case AMQP_BASIC_RECOVER_OK_METHOD: return .basicRecoverOK
        case AMQP_CONFIRM_SELECT_OK_METHOD: return .confirmSelectOK
        default:
            return id >> 16 == AMQP_CONNECTION_CLASS
                ? decodeConnectionMethod(id, arguments) : decodeRequest(id, arguments)
        }
    }

    private mutating func decodeConnectionMethod(_ id: UInt32, _ arguments: UnsafeRawBufferPointer) -> Method? {
        switch id {
        case AMQP_CONNECTION_START_METHOD:
            return decode(id, arguments, as: amqp_connection_start_t.self).flatMap { decoded in
                guard let serverProperties = FieldTable(decoded.server_properties) else { return nil }
                return .connectionStart(
                    ConnectionStart(
                        versionMajor: decoded.version_major,
                        versionMinor: decoded.version_minor,
                        serverProperties: serverProperties,
                        mechanisms: decoded.mechanisms.repairedString,
                        locales: decoded.locales.repairedString
                    )
                )
            }
        case AMQP_CONNECTION_START_OK_METHOD:
            return decode(id, arguments, as: amqp_connection_start_ok_t.self).flatMap { decoded in
                guard let clientProperties = FieldTable(decoded.client_properties) else { return nil }
                return .connectionStartOK(
                    clientProperties: clientProperties,
                    mechanism: decoded.mechanism.repairedString,
                    response: decoded.response.array,
                    locale: decoded.locale.repairedString
                )
            }
        case AMQP_CONNECTION_SECURE_METHOD:
            return decode(id, arguments, as: amqp_connection_secure_t.self).map {
                .connectionSecure(challenge: $0.challenge.array)
            }
        case AMQP_CONNECTION_SECURE_OK_METHOD:
            return decode(id, arguments, as: amqp_connection_secure_ok_t.self).map {
                .connectionSecureOK(response: $0.response.array)
            }
        case AMQP_CONNECTION_TUNE_METHOD:
            return decode(id, arguments, as: amqp_connection_tune_t.self).map {
                .connectionTune(channelMax: $0.channel_max, frameMax: $0.frame_max, heartbeat: $0.heartbeat)
            }
        case AMQP_CONNECTION_TUNE_OK_METHOD:
            return decode(id, arguments, as: amqp_connection_tune_ok_t.self).map {
                .connectionTuneOK(channelMax: $0.channel_max, frameMax: $0.frame_max, heartbeat: $0.heartbeat)
            }
        case AMQP_CONNECTION_OPEN_METHOD:
            return decode(id, arguments, as: amqp_connection_open_t.self).map { decoded in
                .connectionOpen(virtualHost: decoded.virtual_host.text)
            }
        case AMQP_CONNECTION_OPEN_OK_METHOD:
            return decode(id, arguments, as: amqp_connection_open_ok_t.self).map { _ in .connectionOpenOK }
        case AMQP_CONNECTION_CLOSE_METHOD:
            return decode(id, arguments, as: amqp_connection_close_t.self).map {
                .connectionClose(
                    CloseReason(
                        replyCode: $0.reply_code,
                        replyText: $0.reply_text.repairedString,
                        classID: $0.class_id,
                        methodID: $0.method_id
                    )
                )
            }
        case AMQP_CONNECTION_CLOSE_OK_METHOD: return .connectionCloseOK
        case AMQP_CONNECTION_BLOCKED_METHOD:
            return decode(id, arguments, as: amqp_connection_blocked_t.self).map {
                .connectionBlocked(reason: $0.reason.repairedString)
            }
        case AMQP_CONNECTION_UNBLOCKED_METHOD: return .connectionUnblocked
        case Method.updateSecretID:
            var rest = ByteBuffer(bytes: arguments)
            guard
                let newSecret = rest.readLengthPrefixedSlice(as: UInt32.self),
                let reason = rest.readLengthPrefixedSlice(as: UInt8.self)
            else { return nil }
            return .connectionUpdateSecret(
                newSecret: Array(newSecret.readableBytesView),
                reason: String(decoding: reason.readableBytesView, as: UTF8.self)
            )
        case Method.updateSecretOKID: return .connectionUpdateSecretOK
        default: return .unsupported(id: id)
        }
    }

    /// Decodes the methods that a broker receives; used only by peers in tests.
    private mutating func decodeRequest(_ id: UInt32, _ arguments: UnsafeRawBufferPointer) -> Method? {
        switch id {
        case AMQP_CHANNEL_OPEN_METHOD:
            return decode(id, arguments, as: amqp_channel_open_t.self).map { _ in .channelOpen }
        case AMQP_CONFIRM_SELECT_METHOD:
            return decode(id, arguments, as: amqp_confirm_select_t.self).map { _ in .confirmSelect }
        case AMQP_BASIC_PUBLISH_METHOD:
            return decode(id, arguments, as: amqp_basic_publish_t.self).map {
                .basicPublish(
                    exchange: $0.exchange.text,
                    routingKey: $0.routing_key.text,
                    mandatory: $0.mandatory != 0
                )
            }
        case AMQP_BASIC_GET_METHOD:
            return decode(id, arguments, as: amqp_basic_get_t.self).map { decoded in
                .basicGet(queue: decoded.queue.text, noAck: decoded.no_ack != 0)
            }
        case AMQP_BASIC_QOS_METHOD:
            return decode(id, arguments, as: amqp_basic_qos_t.self).map {
                .basicQos(
                    prefetchSize: $0.prefetch_size,
                    prefetchCount: $0.prefetch_count,
                    global: $0.global != 0
                )
            }
        case AMQP_BASIC_RECOVER_METHOD:
            return decode(id, arguments, as: amqp_basic_recover_t.self).map { .basicRecover(requeue: $0.requeue != 0) }
        case AMQP_BASIC_CONSUME_METHOD:
            return decode(id, arguments, as: amqp_basic_consume_t.self).flatMap { decoded in
                guard let table = FieldTable(decoded.arguments)
                else { return nil }
                return .basicConsume(
                    BasicConsume(
                        queue: decoded.queue.text,
                        consumerTag: decoded.consumer_tag.text,
                        noAck: decoded.no_ack != 0,
                        exclusive: decoded.exclusive != 0,
                        arguments: table
                    )
                )
            }
        case AMQP_QUEUE_DECLARE_METHOD:
            return decode(id, arguments, as: amqp_queue_declare_t.self).flatMap { decoded in
                guard let table = FieldTable(decoded.arguments) else { return nil }
                return .queueDeclare(
                    QueueDeclare(
                        queue: decoded.queue.text,
                        passive: decoded.passive != 0,
                        durable: decoded.durable != 0,
                        exclusive: decoded.exclusive != 0,
                        autoDelete: decoded.auto_delete != 0,
                        arguments: table
                    )
                )
            }
        case AMQP_QUEUE_BIND_METHOD:
            return decode(id, arguments, as: amqp_queue_bind_t.self).flatMap { decoded in
                guard let table = FieldTable(decoded.arguments)
                else { return nil }
                return .queueBind(
                    queue: decoded.queue.text,
                    exchange: decoded.exchange.text,
                    routingKey: decoded.routing_key.text,
                    arguments: table
                )
            }
        case AMQP_QUEUE_UNBIND_METHOD:
            return decode(id, arguments, as: amqp_queue_unbind_t.self).flatMap { decoded in
                guard let table = FieldTable(decoded.arguments)
                else { return nil }
                return .queueUnbind(
                    queue: decoded.queue.text,
                    exchange: decoded.exchange.text,
                    routingKey: decoded.routing_key.text,
                    arguments: table
                )
            }
        case AMQP_QUEUE_PURGE_METHOD:
            return decode(id, arguments, as: amqp_queue_purge_t.self).map { decoded in
                .queuePurge(queue: decoded.queue.text)
            }
        case AMQP_QUEUE_DELETE_METHOD:
            return decode(id, arguments, as: amqp_queue_delete_t.self).map { decoded in
                .queueDelete(
                    queue: decoded.queue.text,
                    ifUnused: decoded.if_unused != 0,
                    ifEmpty: decoded.if_empty != 0
                )
            }
        case AMQP_EXCHANGE_DECLARE_METHOD:
            return decode(id, arguments, as: amqp_exchange_declare_t.self).flatMap { decoded in
                guard let table = FieldTable(decoded.arguments) else {
                    return nil
                }
                return .exchangeDeclare(
                    ExchangeDeclare(
                        exchange: decoded.exchange.text,
                        type: decoded.type.text,
                        passive: decoded.passive != 0,
                        durable: decoded.durable != 0,
                        autoDelete: decoded.auto_delete != 0,
                        isInternal: decoded.internal != 0,
                        arguments: table
                    )
                )
            }
        case AMQP_EXCHANGE_DELETE_METHOD:
            return decode(id, arguments, as: amqp_exchange_delete_t.self).map { decoded in
                .exchangeDelete(exchange: decoded.exchange.text, ifUnused: decoded.if_unused != 0)
            }
        case AMQP_EXCHANGE_BIND_METHOD:
            return decode(id, arguments, as: amqp_exchange_bind_t.self).flatMap { decoded in
                guard let table = FieldTable(decoded.arguments)
                else { return nil }
                return .exchangeBind(
                    destination: decoded.destination.text,
                    source: decoded.source.text,
                    routingKey: decoded.routing_key.text,
                    arguments: table
                )
            }
        case AMQP_EXCHANGE_UNBIND_METHOD:
            return decode(id, arguments, as: amqp_exchange_unbind_t.self).flatMap { decoded in
                guard let table = FieldTable(decoded.arguments)
                else { return nil }
                return .exchangeUnbind(
                    destination: decoded.destination.text,
                    source: decoded.source.text,
                    routingKey: decoded.routing_key.text,
                    arguments: table
                )
            }
        default: return .unsupported(id: id)
        }
    }
}
