package import AMQPPool
package import NIOCore
package import RPCContract

/// A reply as it stands on the wire, in both directions.
package struct ReplyMessage: Sendable, Hashable {
    /// What the request had as its correlation id.
    package var correlationID: String?
    /// What the body is written in.
    package var contentType: String?
    /// Headers beyond those of the protocol.
    package var headers = FieldTable()
    /// The failure's code, or `nil` for a result.
    package var errorCode: RPCFailure.Code?
    /// The result, or the failure as `{"code", "message", "details"}`.
    package var body: ByteBuffer

    /// A result.
    package init(result: RPCReply, correlationID: String?) {
        self.correlationID = correlationID
        contentType = result.contentType
        headers = result.headers
        body = result.body
    }

    /// A failure. It is always JSON, whatever the results are written in, so that any client can read it.
    package init(failure: RPCFailure, correlationID: String?) {
        self.correlationID = correlationID
        contentType = JSON.contentType
        errorCode = failure.code
        // Details that JSON cannot write (a number that is infinite) are left out rather than the whole reply.
        let plain = RPCFailure(code: failure.code, message: failure.message)
        body = (try? JSON.encode(failure)) ?? (try? JSON.encode(plain)) ?? ByteBuffer()
    }
}

extension ReplyMessage {
    /// The properties that carry it.
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

    /// Reads a delivered reply.
    package init(properties: MessageProperties, body: ByteBuffer) {
        correlationID = properties.correlationID
        contentType = properties.contentType
        headers = properties.headers
        self.body = body
        switch properties.headers[Header.error] {
        // The request itself, which the broker sends back because nobody took it in time, is no result.
        case nil, .void: errorCode = properties.headers[Header.death] == nil ? nil : .bounced
        case .string(let code): errorCode = RPCFailure.Code(rawValue: code)
        // Whatever it is, it does not say success.
        default: errorCode = .internalError
        }
    }

    /// The result that the reply says.
    package var result: RPCReply { RPCReply(contentType: contentType, headers: headers, body: body) }

    /// The failure that the reply says, or `nil` when it is a result.
    ///
    /// The code is the header's. The rest is what the body gives, which a foreign server may have written in its own way.
    package var failure: RPCFailure? {
        guard let errorCode else { return nil }
        if errorCode == .bounced {
            return RPCFailure(
                code: .bounced,
                message: "the request came back: nobody took it in time, or its taker was lost"
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

    /// How many characters of a body that is no failure of ours become a message.
    private static let longestForeignMessage = 1000
    fileprivate static let noMessage = "the receiver failed and did not say more"
}

extension RPCFailure {
    /// What a body in JSON says of a failure: ours says `{"code", "message", "details"}`; a lone string is a message; anything else is
    /// kept as details.
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
        default: self.init(code: code, message: ReplyMessage.noMessage, details: value)
        }
    }
}
