package import AMQPPool
package import NIOCore
package import RPCContract

/// A request on the wire, in both directions.
package struct RequestMessage: Sendable, Hashable {
    /// The service of the request. The broker routes by it; a receiver ignores it.
    package var destination: String?
    /// The procedure; `nil` for the receiver's default one.
    package var procedure: String?
    /// The call's id as text, or the value of another client; copied unchanged into the reply.
    package var correlationID: String?
    /// The id shared by all deliveries and retries of the request.
    package var messageID: String?
    /// The reply queue; `nil` for a cast.
    package var replyTo: String?
    /// How long the caller still waits, in milliseconds from the request's arrival. `nil` if unknown.
    package var timeoutMilliseconds: Int64?
    /// The content type of the body.
    package var contentType: String?
    /// When writing, headers in addition to those of the protocol; when reading, all of them.
    package var headers: FieldTable
    /// The argument.
    package var body: ByteBuffer

    /// RabbitMQ's maximum time to live, in milliseconds; it closes the channel for a longer one.
    package static let maximumTimeoutMilliseconds: Int64 = 4_294_967_295

    package init(
        destination: String?,
        procedure: String?,
        correlationID: String?,
        messageID: String?,
        replyTo: String?,
        timeoutMilliseconds: Int64?,
        contentType: String?,
        headers: FieldTable = FieldTable(),
        body: ByteBuffer
    ) {
        self.destination = destination
        self.procedure = procedure
        self.correlationID = correlationID
        self.messageID = messageID
        self.replyTo = replyTo
        self.timeoutMilliseconds = timeoutMilliseconds
        self.contentType = contentType
        self.headers = headers
        self.body = body
    }

    /// Creates a call (with `replyTo`) or a cast (without).
    package init(
        id: RequestID,
        destination: String?,
        procedure: String?,
        replyTo: String?,
        remaining: Duration?,
        contentType: String?,
        headers: FieldTable = FieldTable(),
        body: ByteBuffer
    ) {
        let id = id.description
        self.init(
            destination: destination,
            procedure: procedure,
            correlationID: id,
            messageID: id,
            replyTo: replyTo,
            timeoutMilliseconds: remaining.map(Self.milliseconds),
            contentType: contentType,
            headers: headers,
            body: body
        )
    }

    /// The time for the wire: whole milliseconds, rounded up, from one to the broker's maximum.
    package static func milliseconds(_ time: Duration) -> Int64 {
        let (seconds, attoseconds) = time.components
        guard seconds < maximumTimeoutMilliseconds / 1000 else { return maximumTimeoutMilliseconds }
        let millisecond: Int64 = 1_000_000_000_000_000
        let milliseconds = seconds * 1000 + (attoseconds + millisecond - 1) / millisecond
        return max(1, milliseconds)
    }
}

extension RequestMessage {
    /// The message properties of the request.
    package var properties: MessageProperties {
        Self.properties(
            destination: destination,
            procedure: procedure,
            correlationID: correlationID,
            messageID: messageID,
            replyTo: replyTo,
            timeoutMilliseconds: timeoutMilliseconds,
            contentType: contentType,
            headers: headers
        )
    }

    /// The same without creating a message first, used for each call.
    package static func properties(
        destination: String?,
        procedure: String?,
        correlationID: String?,
        messageID: String?,
        replyTo: String?,
        timeoutMilliseconds: Int64?,
        contentType: String?,
        headers: FieldTable
    ) -> MessageProperties {
        var entries: [FieldTable.Entry] = []
        entries.reserveCapacity(3 + headers.entries.count)
        if let destination { entries.append(.init(key: Header.destination, value: .string(destination))) }
        if let procedure { entries.append(.init(key: Header.procedure, value: .string(procedure))) }
        if let timeoutMilliseconds { entries.append(.init(key: Header.timeout, value: .int64(timeoutMilliseconds))) }
        for entry in headers.entries where !Header.ofRequests.contains(entry.key) {
            guard entry.key == Header.caller else {
                entries.append(entry)
                continue
            }
            // Of this attempt: the reply queue may have changed since the last one.
            if let replyTo { entries.append(.init(key: Header.caller, value: .string(replyTo))) }
        }
        return MessageProperties(
            contentType: contentType,
            headers: FieldTable(entries: entries),
            // The loss of a call is reported to its caller, so it need not be written to disk; a cast has nobody to notify.
            deliveryMode: replyTo == nil ? .persistent : .transient,
            correlationID: correlationID,
            replyTo: replyTo,
            expiration: timeoutMilliseconds.map { String($0) },
            messageID: messageID
        )
    }

    /// Parses a delivered request. Missing properties are `nil`: other clients omit many of them.
    ///
    /// - Throws: ``RPCFailure/Code-swift.struct/undecodableRequest`` when a header has an invalid value.
    package init(properties: MessageProperties, body: ByteBuffer) throws(RPCFailure) {
        self.init(
            destination: try Self.text(properties.headers, Header.destination),
            procedure: try Self.text(properties.headers, Header.procedure),
            correlationID: properties.correlationID,
            messageID: properties.messageID,
            replyTo: properties.replyTo.flatMap { $0.isEmpty ? nil : $0 },
            timeoutMilliseconds: try Self.timeout(properties.headers),
            contentType: properties.contentType,
            headers: properties.headers,
            body: body
        )
    }

    private static func text(_ headers: FieldTable, _ name: String) throws(RPCFailure) -> String? {
        switch headers[name] {
        case nil: nil
        case .string(let text): text
        case .bool, .int8, .uint8, .int16, .uint16, .int32, .uint32, .int64, .uint64, .float, .double, .decimal,
            .bytes, .array, .timestamp, .table, .void:
            throw RPCFailure(code: .undecodableRequest, message: "the header \"\(name)\" is not a string")
        }
    }

    private static func timeout(_ headers: FieldTable) throws(RPCFailure) -> Int64? {
        guard let value = headers[Header.timeout] else { return nil }
        guard let milliseconds = value.wholeNumber else {
            throw RPCFailure(
                code: .undecodableRequest,
                message: "the header \"\(Header.timeout)\" is not a whole number"
            )
        }
        return min(max(0, milliseconds), maximumTimeoutMilliseconds)
    }
}

extension FieldValue {
    /// The number, of any width, or from decimal text.
    package var wholeNumber: Int64? {
        switch self {
        case .int8(let value): Int64(value)
        case .uint8(let value): Int64(value)
        case .int16(let value): Int64(value)
        case .uint16(let value): Int64(value)
        case .int32(let value): Int64(value)
        case .uint32(let value): Int64(value)
        case .int64(let value): value
        case .uint64(let value): Int64(clamping: value)
        case .string(let text): Int64(text)
        case .bool, .float, .double, .decimal, .bytes, .array, .timestamp, .table, .void: nil
        }
    }
}
