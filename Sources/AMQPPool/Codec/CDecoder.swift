import CRabbitMQ
import NIOCore

/// Decodes methods and properties with librabbitmq, and copies the results into Swift values.
struct CDecoder: ~Copyable {
    private var memory = CMemory()
    var consumerTag = RecentString()
    var routingKey = RecentString()
    private var contentType = RecentString()
    private var replyTo = RecentString()

    /// Decodes a message's properties; `bytes` is what follows the body size in a content header.
    mutating func properties(_ bytes: ByteBuffer) -> Result<MessageProperties, RefusedProperties> {
        do throws(PropertiesError) {
            try TableCheck.properties(bytes.readableBytesUInt8Span)
        } catch {
            return .failure(RefusedProperties(reason: error, readable: withoutHeaders(bytes, error)))
        }
        return decodeProperties(bytes)
    }

    /// The properties without the headers, if the headers are the reason for the refusal.
    private mutating func withoutHeaders(_ bytes: ByteBuffer, _ reason: PropertiesError) -> MessageProperties? {
        switch reason {
        case .nestedTooDeeply, .tooManyFields: break
        case .undefinedFlags, .malformed: return nil
        }
        guard let (start, end) = try? TableCheck.headers(bytes.readableBytesUInt8Span) else { return nil }
        var rest = bytes
        var others = ByteBuffer()
        guard let flags = rest.readInteger(as: UInt16.self), let before = rest.readSlice(length: start - 2) else {
            return nil
        }
        rest.moveReaderIndex(forwardBy: min(end - start, rest.readableBytes))
        others.writeInteger(flags & ~UInt16(1 << TableCheck.headersFlag))
        others.writeImmutableBuffer(before)
        others.writeImmutableBuffer(rest)
        guard (try? TableCheck.properties(others.readableBytesUInt8Span)) != nil else { return nil }
        return try? decodeProperties(others).get()
    }

    private mutating func decodeProperties(_ bytes: ByteBuffer) -> Result<MessageProperties, RefusedProperties> {
        memory.recycle()
        return bytes.withUnsafeReadableBytes { encoded in
            let decoded = memory.decode(encoded, as: amqp_basic_properties_t.self) {
                amqp_decode_properties(UInt16(AMQP_BASIC_CLASS), &$0, $1, &$2)
            }
            guard let decoded, let fields = MessageProperties.Fields(decoded, &contentType, &replyTo) else {
                return .failure(RefusedProperties(reason: .malformed))
            }
            return .success(MessageProperties(fields))
        }
    }

    /// Decodes a method; `arguments` is what follows its id. `nil` if they cannot be decoded.
    mutating func method(id: UInt32, arguments: ByteBuffer) -> Method? {
        if let layout = TableLayout(id), !layout.accepts(arguments.readableBytesUInt8Span) { return nil }
        memory.recycle()
        return arguments.withUnsafeReadableBytes { decodeMethod(id, $0) }
    }

    /// Runs librabbitmq's decoder for the arguments of a method.
    mutating func decode<Arguments>(
        _ id: UInt32,
        _ arguments: UnsafeRawBufferPointer,
        as type: Arguments.Type
    ) -> Arguments? {
        memory.decode(arguments, as: type) { amqp_decode_method(id, &$0, $1, &$2) }
    }
}

/// The position of the table among the arguments of a method that has one. No method has two.
private struct TableLayout {
    /// First integers, then short strings, then flags, then the table; sizes in bytes.
    var integers: Int
    var shortStrings: Int
    var flags: Int

    init?(_ id: UInt32) {
        switch id {
        case AMQP_CONNECTION_START_METHOD: (integers, shortStrings, flags) = (2, 0, 0)
        case AMQP_CONNECTION_START_OK_METHOD: (integers, shortStrings, flags) = (0, 0, 0)
        case AMQP_EXCHANGE_DECLARE_METHOD: (integers, shortStrings, flags) = (2, 2, 1)
        case AMQP_EXCHANGE_BIND_METHOD: (integers, shortStrings, flags) = (2, 3, 1)
        case AMQP_EXCHANGE_UNBIND_METHOD: (integers, shortStrings, flags) = (2, 3, 1)
        case AMQP_QUEUE_DECLARE_METHOD: (integers, shortStrings, flags) = (2, 1, 1)
        case AMQP_QUEUE_BIND_METHOD: (integers, shortStrings, flags) = (2, 3, 1)
        case AMQP_QUEUE_UNBIND_METHOD: (integers, shortStrings, flags) = (2, 3, 0)
        case AMQP_BASIC_CONSUME_METHOD: (integers, shortStrings, flags) = (2, 2, 1)
        default: return nil
        }
    }

    func accepts(_ arguments: Span<UInt8>) -> Bool {
        var check = TableCheck(at: 0)
        do throws(PropertiesError) {
            try check.skip(integers, end: arguments.count)
            for _ in 0..<shortStrings { try check.shortString(in: arguments) }
            try check.skip(flags, end: arguments.count)
            try check.table(in: arguments)
            return true
        } catch {
            return false
        }
    }
}

extension MessageProperties.Fields {
    /// Copies what librabbitmq decoded. `nil` if a header is of a kind that `TableCheck` does not accept.
    fileprivate init?(
        _ decoded: amqp_basic_properties_t,
        _ recentContentType: inout RecentString,
        _ recentReplyTo: inout RecentString
    ) {
        let flags = CInt(bitPattern: decoded._flags)
        self.init()
        if flags & AMQP_BASIC_CONTENT_TYPE_FLAG != 0 {
            contentType = recentContentType.text(decoded.content_type)
        }
        if flags & AMQP_BASIC_CONTENT_ENCODING_FLAG != 0 { contentEncoding = decoded.content_encoding.text }
        if flags & AMQP_BASIC_HEADERS_FLAG != 0 {
            guard let table = FieldTable(decoded.headers) else { return nil }
            headers = table
        }
        if flags & AMQP_BASIC_DELIVERY_MODE_FLAG != 0 { deliveryMode = DeliveryMode(rawValue: decoded.delivery_mode) }
        if flags & AMQP_BASIC_PRIORITY_FLAG != 0 { priority = decoded.priority }
        if flags & AMQP_BASIC_CORRELATION_ID_FLAG != 0 {
            correlationID = decoded.correlation_id.text
        }
        if flags & AMQP_BASIC_REPLY_TO_FLAG != 0 {
            replyTo = recentReplyTo.text(decoded.reply_to)
        }
        if flags & AMQP_BASIC_EXPIRATION_FLAG != 0 {
            expiration = decoded.expiration.text
        }
        if flags & AMQP_BASIC_MESSAGE_ID_FLAG != 0 {
            // In a call both ids are the same string.
            if let correlationID, decoded.message_id.isEqual(decoded.correlation_id) {
                messageID = correlationID
            } else {
                messageID = decoded.message_id.text
            }
        }
        if flags & AMQP_BASIC_TIMESTAMP_FLAG != 0 { timestamp = decoded.timestamp }
        if flags & AMQP_BASIC_TYPE_FLAG != 0 { type = decoded.type.text }
        if flags & AMQP_BASIC_USER_ID_FLAG != 0 {
            userID = decoded.user_id.text
        }
        if flags & AMQP_BASIC_APP_ID_FLAG != 0 { appID = decoded.app_id.text }
    }
}

extension FieldTable {
    /// Copies what librabbitmq decoded. `nil` if an entry is of a kind that `TableCheck` does not accept.
    init?(_ decoded: amqp_table_t) {
        var entries: [Entry] = []
        entries.reserveCapacity(Int(decoded.num_entries))
        for entry in decoded.decodedEntries {
            guard let value = FieldValue(entry.value) else { return nil }
            entries.append(Entry(key: entry.key.text, value: value))
        }
        self.init(entries: entries)
    }
}

extension FieldValue {
    /// Copies what librabbitmq decoded. `nil` if the value is of a kind that `TableCheck` does not accept.
    fileprivate init?(_ field: amqp_field_value_t) {
        switch field.kind {
        case UInt8(ascii: "S"): self = field.value.bytes.string.map { .string($0) } ?? .bytes(field.value.bytes.array)
        case UInt8(ascii: "t"): self = .bool(field.value.boolean != 0)
        case UInt8(ascii: "b"): self = .int8(field.value.i8)
        case UInt8(ascii: "B"): self = .uint8(field.value.u8)
        case UInt8(ascii: "s"): self = .int16(field.value.i16)
        case UInt8(ascii: "u"): self = .uint16(field.value.u16)
        case UInt8(ascii: "I"): self = .int32(field.value.i32)
        case UInt8(ascii: "i"): self = .uint32(field.value.u32)
        case UInt8(ascii: "l"): self = .int64(field.value.i64)
        case UInt8(ascii: "L"): self = .uint64(field.value.u64)
        case UInt8(ascii: "f"): self = .float(Float(bitPattern: field.value.u32))
        case UInt8(ascii: "d"): self = .double(Double(bitPattern: field.value.u64))
        case UInt8(ascii: "D"):
            self = .decimal(scale: field.value.decimal.decimals, value: field.value.decimal.value)
        case UInt8(ascii: "x"): self = .bytes(field.value.bytes.array)
        case UInt8(ascii: "T"): self = .timestamp(field.value.u64)
        case UInt8(ascii: "V"): self = .void
        case UInt8(ascii: "A"):
            var values: [FieldValue] = []
            values.reserveCapacity(Int(field.value.array.num_entries))
            for element in field.value.array.decodedEntries {
                guard let value = FieldValue(element) else { return nil }
                values.append(value)
            }
            self = .array(values)
        case UInt8(ascii: "F"):
            guard let table = FieldTable(field.value.table) else { return nil }
            self = .table(table)
        default: return nil
        }
    }
}
