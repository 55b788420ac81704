package import AMQPPool
package import NIOCore
package import RPCContract

/// A reply on the wire, in both directions.
package struct ReplyMessage: Sendable, Hashable {
    /// The correlation id of the request.
    package var correlationID: String?
    /// The content type of the body.
    var contentType: String?
    /// Headers in addition to those of the protocol.
    var headers = FieldTable()
    /// The failure's code, or `nil` for a result.
    var errorCode: RPCFailure.Code?
    /// The result, or the failure as `{"code", "message", "details"}`.
    package var body: ByteBuffer

    /// Creates a result.
    package init(result: RPCReply, correlationID: String?) {
        self.correlationID = correlationID
        contentType = result.contentType
        headers = result.headers
        body = result.body
    }

    /// Creates a failure. It is always JSON, whatever the codec of results, so that any client can read it.
    package init(failure: RPCFailure, correlationID: String?) {
        self.correlationID = correlationID
        contentType = JSON.contentType
        errorCode = failure.code
        // Details that JSON cannot represent (an infinite number) are omitted instead of the whole reply.
        let plain = RPCFailure(code: failure.code, message: failure.message)
        body = (try? JSON.encode(failure)) ?? (try? JSON.encode(plain)) ?? ByteBuffer()
    }
}

extension ReplyMessage {
    /// The message properties of the reply.
    package var properties: MessageProperties {
        var headers = headers
        headers[Header.error] = errorCode.map { .string($0.rawValue) }
        return MessageProperties(
            contentType: contentType,
            headers: headers,
            deliveryMode: .transient,
            correlationID: correlationID
        )
    }

    /// Parses a delivered reply.
    package init(properties: MessageProperties, body: ByteBuffer) {
        correlationID = properties.correlationID
        contentType = properties.contentType
        headers = properties.headers
        self.body = body
        switch properties.headers[Header.error] {
        // The request itself, which the broker returned because nobody took it in time, is not a result.
        case nil, .void: errorCode = properties.headers[Header.death] == nil ? nil : .bounced
        case .string(let code): errorCode = RPCFailure.Code(rawValue: code)
        // Any other value of the header does not mean success.
        case .bool, .int8, .uint8, .int16, .uint16, .int32, .uint32, .int64, .uint64, .float, .double, .decimal,
            .bytes, .array, .timestamp, .table:
            errorCode = .internalError
        }
    }

    /// The result in the reply.
    package var result: RPCReply { RPCReply(contentType: contentType, headers: headers, body: body) }

    /// The failure in the reply; `nil` when it is a result.
    ///
    /// The code is the header's. The rest comes from the body, which another server may have written in its own format.
    package var failure: RPCFailure? {
        guard let errorCode else { return nil }
        if errorCode == .bounced {
            return RPCFailure(
                code: .bounced,
                message: "the request was returned: nobody took it in time, or its receiver was lost"
            )
        }
        if JSON.accepts(contentType: contentType), let value = try? JSON.decode(JSONValue.self, from: body) {
            return RPCFailure(code: errorCode, said: value)
        }
        let text = TextCodec()
        if text.accepts(contentType), let message = try? text.decode(body), !message.isEmpty {
            return RPCFailure(code: errorCode, message: String(message.prefix(Self.longestForeignMessage)))
        }
        return RPCFailure(code: errorCode, message: Self.noMessage)
    }

    /// The maximum number of characters of a foreign body that are used as the message.
    private static let longestForeignMessage = 1000
    fileprivate static let noMessage = "the receiver failed without a message"
}

extension RPCFailure {
    /// Interprets a JSON body as a failure: ours is `{"code", "message", "details"}`; a single string is the message; anything else becomes
    /// the details.
    fileprivate init(code: Code, said value: JSONValue) {
        switch value {
        case .object(let members):
            if case .string(let message) = members["message"] {
                self.init(code: code, message: message)
                if let details = members["details"], details != .null { self.details = details }
            } else if members["code"] != nil, members["message"] == nil {
                self.init(code: code, message: "", details: members["details"])
            } else {
                self.init(code: code, message: ReplyMessage.noMessage, details: value)
            }
        case .string(let message): self.init(code: code, message: message)
        case .null: self.init(code: code, message: ReplyMessage.noMessage)
        case .bool, .integer, .number, .array:
            self.init(code: code, message: ReplyMessage.noMessage, details: value)
        }
    }
}
