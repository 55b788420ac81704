import CRabbitMQ
import NIOCore

extension FrameWriter {
    /// Appends the frame of a method. ``tables`` has begun.
    mutating func encodeArguments(of method: Method, channel: UInt16, into buffer: inout ByteBuffer)
        throws(EncodingError)
    {
        switch method {
        case .basicPublish(let exchange, let routingKey, let mandatory):
            let arguments = amqp_basic_publish_t(
                ticket: 0,
                exchange: try tables.shortString(exchange, "exchange"),
                routing_key: try tables.shortString(routingKey, "routing-key"),
                mandatory: mandatory.flag,
                immediate: 0
            )
            try write(AMQP_BASIC_PUBLISH_METHOD, arguments, channel: channel, into: &buffer)
        case .basicAck(let tag, let multiple):
            let arguments = amqp_basic_ack_t(delivery_tag: tag, multiple: multiple.flag)
            try write(AMQP_BASIC_ACK_METHOD, arguments, channel: channel, into: &buffer)
        case .basicDeliver(let consumerTag, let tag, let redelivered, let exchange, let routingKey):
            let arguments = amqp_basic_deliver_t(
                consumer_tag: try tables.shortString(consumerTag, "consumer-tag"),
                delivery_tag: tag,
                redelivered: redelivered.flag,
                exchange: try tables.shortString(exchange, "exchange"),
                routing_key: try tables.shortString(routingKey, "routing-key")
            )
            try write(AMQP_BASIC_DELIVER_METHOD, arguments, channel: channel, into: &buffer)
        case .basicReturn(let code, let text, let exchange, let routingKey):
            let arguments = amqp_basic_return_t(
                reply_code: code,
                reply_text: try tables.shortString(text, "reply-text"),
                exchange: try tables.shortString(exchange, "exchange"),
                routing_key: try tables.shortString(routingKey, "routing-key")
            )
            try write(AMQP_BASIC_RETURN_METHOD, arguments, channel: channel, into: &buffer)
        case .basicGet(let queue, let noAck):
            let arguments = amqp_basic_get_t(
                ticket: 0,
                queue: try tables.shortString(queue, "queue"),
                no_ack: noAck.flag
            )
            try write(AMQP_BASIC_GET_METHOD, arguments, channel: channel, into: &buffer)
        case .basicGetOK(let tag, let redelivered, let exchange, let routingKey, let messageCount):
            let arguments = amqp_basic_get_ok_t(
                delivery_tag: tag,
                redelivered: redelivered.flag,
                exchange: try tables.shortString(exchange, "exchange"),
                routing_key: try tables.shortString(routingKey, "routing-key"),
                message_count: messageCount
            )
            try write(AMQP_BASIC_GET_OK_METHOD, arguments, channel: channel, into: &buffer)
        case .basicGetEmpty:
            try write(AMQP_BASIC_GET_EMPTY_METHOD, amqp_basic_get_empty_t(), channel: channel, into: &buffer)
        case .basicReject(let tag, let requeue):
            let arguments = amqp_basic_reject_t(delivery_tag: tag, requeue: requeue.flag)
            try write(AMQP_BASIC_REJECT_METHOD, arguments, channel: channel, into: &buffer)
        case .basicNack(let tag, let multiple, let requeue):
            let arguments = amqp_basic_nack_t(delivery_tag: tag, multiple: multiple.flag, requeue: requeue.flag)
            try write(AMQP_BASIC_NACK_METHOD, arguments, channel: channel, into: &buffer)
        case .basicQos(let size, let count, let global):
            let arguments = amqp_basic_qos_t(prefetch_size: size, prefetch_count: count, global: global.flag)
            try write(AMQP_BASIC_QOS_METHOD, arguments, channel: channel, into: &buffer)
        case .basicConsume(let consume):
            let arguments = amqp_basic_consume_t(
                ticket: 0,
                queue: try tables.shortString(consume.queue, "queue"),
                consumer_tag: try tables.shortString(consume.consumerTag, "consumer-tag"),
                no_local: 0,
                no_ack: consume.noAck.flag,
                exclusive: consume.exclusive.flag,
                nowait: 0,
                arguments: try tables.table(consume.arguments)
            )
            try write(AMQP_BASIC_CONSUME_METHOD, arguments, channel: channel, into: &buffer)
        case .basicConsumeOK(let tag):
            let arguments = amqp_basic_consume_ok_t(consumer_tag: try tables.shortString(tag, "consumer-tag"))
            try write(AMQP_BASIC_CONSUME_OK_METHOD, arguments, channel: channel, into: &buffer)
        case .basicCancel(let tag, let noWait):
            let arguments = amqp_basic_cancel_t(
                consumer_tag: try tables.shortString(tag, "consumer-tag"),
                nowait: noWait.flag
            )
            try write(AMQP_BASIC_CANCEL_METHOD, arguments, channel: channel, into: &buffer)
        case .basicCancelOK(let tag):
            let arguments = amqp_basic_cancel_ok_t(consumer_tag: try tables.shortString(tag, "consumer-tag"))
            try write(AMQP_BASIC_CANCEL_OK_METHOD, arguments, channel: channel, into: &buffer)
        case .basicRecover(let requeue):
            let arguments = amqp_basic_recover_t(requeue: requeue.flag)
            try write(AMQP_BASIC_RECOVER_METHOD, arguments, channel: channel, into: &buffer)
        case .confirmSelect:
            try write(AMQP_CONFIRM_SELECT_METHOD, amqp_confirm_select_t(nowait: 0), channel: channel, into: &buffer)
        case .queueDeclare, .queueDeclareOK, .queueBind, .queueUnbind, .queuePurge, .queuePurgeOK, .queueDelete,
            .queueDeleteOK, .exchangeDeclare, .exchangeDelete, .exchangeBind, .exchangeUnbind:
            try encodeTopologyArguments(of: method, channel: channel, into: &buffer)
        case .connectionStart, .connectionStartOK, .connectionSecure, .connectionSecureOK, .connectionTune,
            .connectionTuneOK, .connectionOpen, .connectionOpenOK, .connectionClose, .connectionBlocked,
            .connectionUpdateSecret, .channelOpen, .channelOpenOK, .channelFlow, .channelFlowOK, .channelClose:
            try encodeConnectionArguments(of: method, channel: channel, into: &buffer)
        case .connectionCloseOK, .connectionUnblocked, .connectionUpdateSecretOK, .channelCloseOK, .exchangeDeclareOK,
            .exchangeDeleteOK, .exchangeBindOK, .exchangeUnbindOK, .queueBindOK, .queueUnbindOK, .basicQosOK,
            .basicRecoverOK, .confirmSelectOK:
            write(method.id, channel: channel, into: &buffer)
        case .unsupported:
            throw .unsupportedMethod(method.name)
        }
    }

    private mutating func encodeTopologyArguments(
        of method: Method,
        channel: UInt16,
        into buffer: inout ByteBuffer
    ) throws(EncodingError) {
        switch method {
        case .queueDeclare(let declare):
            let arguments = amqp_queue_declare_t(
                ticket: 0,
                queue: try tables.shortString(declare.queue, "queue"),
                passive: declare.passive.flag,
                durable: declare.durable.flag,
                exclusive: declare.exclusive.flag,
                auto_delete: declare.autoDelete.flag,
                nowait: 0,
                arguments: try tables.table(declare.arguments)
            )
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .queueDeclareOK(let queue, let messageCount, let consumerCount):
            let arguments = amqp_queue_declare_ok_t(
                queue: try tables.shortString(queue, "queue"),
                message_count: messageCount,
                consumer_count: consumerCount
            )
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .queueBind(let queue, let exchange, let routingKey, let table):
            let arguments = amqp_queue_bind_t(
                ticket: 0,
                queue: try tables.shortString(queue, "queue"),
                exchange: try tables.shortString(exchange, "exchange"),
                routing_key: try tables.shortString(routingKey, "routing-key"),
                nowait: 0,
                arguments: try tables.table(table)
            )
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .queueUnbind(let queue, let exchange, let routingKey, let table):
            let arguments = amqp_queue_unbind_t(
                ticket: 0,
                queue: try tables.shortString(queue, "queue"),
                exchange: try tables.shortString(exchange, "exchange"),
                routing_key: try tables.shortString(routingKey, "routing-key"),
                arguments: try tables.table(table)
            )
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .queuePurge(let queue):
            let arguments = amqp_queue_purge_t(ticket: 0, queue: try tables.shortString(queue, "queue"), nowait: 0)
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .queuePurgeOK(let messageCount):
            let arguments = amqp_queue_purge_ok_t(message_count: messageCount)
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .queueDelete(let queue, let ifUnused, let ifEmpty):
            let arguments = amqp_queue_delete_t(
                ticket: 0,
                queue: try tables.shortString(queue, "queue"),
                if_unused: ifUnused.flag,
                if_empty: ifEmpty.flag,
                nowait: 0
            )
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .queueDeleteOK(let messageCount):
            let arguments = amqp_queue_delete_ok_t(message_count: messageCount)
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .exchangeDeclare(let declare):
            let arguments = amqp_exchange_declare_t(
                ticket: 0,
                exchange: try tables.shortString(declare.exchange, "exchange"),
                type: try tables.shortString(declare.type, "type"),
                passive: declare.passive.flag,
                durable: declare.durable.flag,
                auto_delete: declare.autoDelete.flag,
                internal: declare.isInternal.flag,
                nowait: 0,
                arguments: try tables.table(declare.arguments)
            )
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .exchangeDelete(let exchange, let ifUnused):
            let arguments = amqp_exchange_delete_t(
                ticket: 0,
                exchange: try tables.shortString(exchange, "exchange"),
                if_unused: ifUnused.flag,
                nowait: 0
            )
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .exchangeBind(let destination, let source, let routingKey, let table):
            let arguments = amqp_exchange_bind_t(
                ticket: 0,
                destination: try tables.shortString(destination, "destination"),
                source: try tables.shortString(source, "source"),
                routing_key: try tables.shortString(routingKey, "routing-key"),
                nowait: 0,
                arguments: try tables.table(table)
            )
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .exchangeUnbind(let destination, let source, let routingKey, let table):
            let arguments = amqp_exchange_unbind_t(
                ticket: 0,
                destination: try tables.shortString(destination, "destination"),
                source: try tables.shortString(source, "source"),
                routing_key: try tables.shortString(routingKey, "routing-key"),
                nowait: 0,
                arguments: try tables.table(table)
            )
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .connectionStart, .connectionStartOK, .connectionSecure, .connectionSecureOK, .connectionTune,
            .connectionTuneOK, .connectionOpen, .connectionOpenOK, .connectionClose, .connectionCloseOK,
            .connectionBlocked, .connectionUnblocked, .connectionUpdateSecret, .connectionUpdateSecretOK,
            .channelOpen, .channelOpenOK, .channelFlow, .channelFlowOK, .channelClose, .channelCloseOK,
            .exchangeDeclareOK, .exchangeDeleteOK, .exchangeBindOK, .exchangeUnbindOK, .queueBindOK, .queueUnbindOK,
            .basicQos, .basicQosOK, .basicConsume, .basicConsumeOK, .basicCancel, .basicCancelOK, .basicPublish,
            .basicReturn, .basicDeliver, .basicGet, .basicGetOK, .basicGetEmpty, .basicAck, .basicReject, .basicNack,
            .basicRecover, .basicRecoverOK, .confirmSelect, .confirmSelectOK, .unsupported:
            throw .unsupportedMethod(method.name)
        }
    }

    private mutating func encodeConnectionArguments(
        of method: Method,
        channel: UInt16,
        into buffer: inout ByteBuffer
    ) throws(EncodingError) {
        switch method {
        case .connectionStart(let start):
            let arguments = amqp_connection_start_t(
                version_major: start.versionMajor,
                version_minor: start.versionMinor,
                server_properties: try tables.table(start.serverProperties),
                mechanisms: try tables.longString(start.mechanisms),
                locales: try tables.longString(start.locales)
            )
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .connectionStartOK(let clientProperties, let mechanism, let response, let locale):
            let arguments = amqp_connection_start_ok_t(
                client_properties: try tables.table(clientProperties),
                mechanism: try tables.shortString(mechanism, "mechanism"),
                response: try tables.longString(response),
                locale: try tables.shortString(locale, "locale")
            )
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .connectionSecure(let challenge):
            let arguments = amqp_connection_secure_t(challenge: try tables.longString(challenge))
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .connectionSecureOK(let response):
            let arguments = amqp_connection_secure_ok_t(response: try tables.longString(response))
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .connectionTune(let channelMax, let frameMax, let heartbeat):
            let arguments = amqp_connection_tune_t(channel_max: channelMax, frame_max: frameMax, heartbeat: heartbeat)
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .connectionTuneOK(let channelMax, let frameMax, let heartbeat):
            let arguments = amqp_connection_tune_ok_t(
                channel_max: channelMax,
                frame_max: frameMax,
                heartbeat: heartbeat
            )
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .connectionOpen(let virtualHost):
            let arguments = amqp_connection_open_t(
                virtual_host: try tables.shortString(virtualHost, "virtual-host"),
                capabilities: try tables.shortString("", "capabilities"),
                insist: 0
            )
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .connectionOpenOK:
            let arguments = amqp_connection_open_ok_t(known_hosts: try tables.shortString("", "known-hosts"))
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .connectionClose(let reason):
            let arguments = amqp_connection_close_t(
                reply_code: reason.replyCode,
                reply_text: try tables.shortString(reason.replyText, "reply-text"),
                class_id: reason.classID,
                method_id: reason.methodID
            )
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .connectionBlocked(let reason):
            let arguments = amqp_connection_blocked_t(reason: try tables.shortString(reason, "reason"))
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .connectionUpdateSecret(let newSecret, let reason):
            try writeUpdateSecret(newSecret, reason: reason, channel: channel, into: &buffer)
        case .channelOpen:
            let arguments = amqp_channel_open_t(out_of_band: try tables.shortString("", "out-of-band"))
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .channelOpenOK:
            let arguments = amqp_channel_open_ok_t(channel_id: try tables.longString(""))
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .channelFlow(let active):
            let arguments = amqp_channel_flow_t(active: active.flag)
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .channelFlowOK(let active):
            let arguments = amqp_channel_flow_ok_t(active: active.flag)
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .channelClose(let reason):
            let arguments = amqp_channel_close_t(
                reply_code: reason.replyCode,
                reply_text: try tables.shortString(reason.replyText, "reply-text"),
                class_id: reason.classID,
                method_id: reason.methodID
            )
            try write(method.id, arguments, channel: channel, into: &buffer)
        case .connectionCloseOK, .connectionUnblocked, .connectionUpdateSecretOK, .channelCloseOK, .exchangeDeclare,
            .exchangeDeclareOK, .exchangeDelete, .exchangeDeleteOK, .exchangeBind, .exchangeBindOK, .exchangeUnbind,
            .exchangeUnbindOK, .queueDeclare, .queueDeclareOK, .queueBind, .queueBindOK, .queueUnbind, .queueUnbindOK,
            .queuePurge, .queuePurgeOK, .queueDelete, .queueDeleteOK, .basicQos, .basicQosOK, .basicConsume,
            .basicConsumeOK, .basicCancel, .basicCancelOK, .basicPublish, .basicReturn, .basicDeliver, .basicGet,
            .basicGetOK, .basicGetEmpty, .basicAck, .basicReject, .basicNack, .basicRecover, .basicRecoverOK,
            .confirmSelect, .confirmSelectOK, .unsupported:
            throw .unsupportedMethod(method.name)
        }
    }
}

extension Bool {
    /// The value as librabbitmq's `amqp_boolean_t`.
    fileprivate var flag: amqp_boolean_t { self ? 1 : 0 }
}
