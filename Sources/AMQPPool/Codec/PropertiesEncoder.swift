import CRabbitMQ

extension TableEncoder {
    /// The properties of a message as librabbitmq's structure. Call ``begin(room:)`` first.
    mutating func properties(_ properties: MessageProperties) throws(EncodingError) -> amqp_basic_properties_t {
        let properties = properties.fields
        var result = amqp_basic_properties_t()
        if let text = properties.contentType {
            result.content_type = try shortString(text, "content-type")
            result._flags |= UInt32(AMQP_BASIC_CONTENT_TYPE_FLAG)
        }
        if let text = properties.contentEncoding {
            result.content_encoding = try shortString(text, "content-encoding")
            result._flags |= UInt32(AMQP_BASIC_CONTENT_ENCODING_FLAG)
        }
        if !properties.headers.isEmpty {
            try checkCopies(properties.headers)
            result.headers = try table(properties.headers)
            result._flags |= UInt32(AMQP_BASIC_HEADERS_FLAG)
        }
        if let mode = properties.deliveryMode {
            result.delivery_mode = mode.rawValue
            result._flags |= UInt32(AMQP_BASIC_DELIVERY_MODE_FLAG)
        }
        if let priority = properties.priority {
            result.priority = priority
            result._flags |= UInt32(AMQP_BASIC_PRIORITY_FLAG)
        }
        if let text = properties.correlationID {
            result.correlation_id = try shortString(text, "correlation-id")
            result._flags |= UInt32(AMQP_BASIC_CORRELATION_ID_FLAG)
        }
        if let text = properties.replyTo {
            result.reply_to = try shortString(text, "reply-to")
            result._flags |= UInt32(AMQP_BASIC_REPLY_TO_FLAG)
        }
        if let text = properties.expiration {
            guard Self.isExpiration(text) else { throw .invalidExpiration(text) }
            result.expiration = try shortString(text, "expiration")
            result._flags |= UInt32(AMQP_BASIC_EXPIRATION_FLAG)
        }
        if let text = properties.messageID {
            result.message_id = try shortString(text, "message-id")
            result._flags |= UInt32(AMQP_BASIC_MESSAGE_ID_FLAG)
        }
        if let seconds = properties.timestamp {
            result.timestamp = seconds
            result._flags |= UInt32(AMQP_BASIC_TIMESTAMP_FLAG)
        }
        if let text = properties.type {
            result.type = try shortString(text, "type")
            result._flags |= UInt32(AMQP_BASIC_TYPE_FLAG)
        }
        if let text = properties.userID {
            result.user_id = try shortString(text, "user-id")
            result._flags |= UInt32(AMQP_BASIC_USER_ID_FLAG)
        }
        if let text = properties.appID {
            result.app_id = try shortString(text, "app-id")
            result._flags |= UInt32(AMQP_BASIC_APP_ID_FLAG)
        }
        return result
    }

    /// If they are not arrays, `rabbit_basic` closes the channel with 406 and a text that does not identify the message.
    private func checkCopies(_ headers: FieldTable) throws(EncodingError) {
        for header in MessageProperties.copyHeaders {
            switch headers[header] {
            case nil, .array?: break
            case _?: throw .invalidCopies(header: header)
            }
        }
    }

    /// Whether the broker accepts the expiration: `rabbit_basic` parses decimal digits up to the maximum of an Erlang timer, and closes the
    /// channel with 406 for anything else.
    private static func isExpiration(_ text: String) -> Bool {
        guard !text.isEmpty, text.utf8.count <= 255 else { return false }
        var milliseconds: UInt64 = 0
        for digit in text.utf8 {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) else { return false }
            milliseconds = milliseconds * 10 + UInt64(digit - UInt8(ascii: "0"))
            guard milliseconds <= UInt64(UInt32.max) else { return false }
        }
        return true
    }
}
