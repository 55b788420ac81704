package import AMQPPool
package import NIOCore

/// A reply as it stands on the wire, in both directions.
package struct ReplyMessage: Sendable, Hashable {
    /// What the request had as its correlation id.
    package var correlationID: String?
    /// What the body is written in.
    package var contentType: String?
    /// The failure's code, or `nil` for a result.
    package var errorCode: RPCFailure.Code?
    /// The result, or the failure as `{"code", "message", "details"}`.
    package var body: ByteBuffer

    /// A result.
    package init(result body: ByteBuffer, contentType: String, correlationID: String?) {
        self.correlationID = correlationID
        self.contentType = contentType
        self.body = body
    }

    /// A failure. It is always JSON, whatever the results are written in, so that any client can read it.
    package init(failure: RPCFailure, correlationID: String?) {
        let codec = JSONCodec()
        self.correlationID = correlationID
        contentType = codec.contentType
        errorCode = failure.code
        // Details that JSON cannot write (a number that is infinite) are left out rather than the whole reply.
        let plain = RPCFailure(code: failure.code, message: failure.message)
        body = (try? codec.encode(failure)) ?? (try? codec.encode(plain)) ?? ByteBuffer()
    }
}

extension ReplyMessage {
    /// The properties that carry it.
    package var properties: MessageProperties {
        var headers = FieldTable()
        if let errorCode { headers[Header.error] = .string(errorCode.rawValue) }
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
        self.body = body
        switch properties.headers[Header.error] {
        case nil, .void: errorCode = nil
        case .string(let code): errorCode = RPCFailure.Code(rawValue: code)
        // Whatever it is, it does not say success.
        default: errorCode = .internalError
        }
    }

    /// The failure that the reply says, or `nil` when it is a result. A body that is no failure in JSON leaves the code.
    package var failure: RPCFailure? {
        guard let errorCode else { return nil }
        guard var failure = try? JSONCodec().decode(RPCFailure.self, from: body) else {
            return RPCFailure(code: errorCode, message: "the receiver failed and did not say more")
        }
        failure.code = errorCode
        return failure
    }
}
