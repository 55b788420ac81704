import CRabbitMQ

/// Converts strings and tables into librabbitmq's structures, and rejects what must not be sent.
///
/// librabbitmq (0.11) truncates the length of a table's key to 8 bits but writes the whole key, recurses without a limit, and does not
/// validate anything else: all checks are here. Nothing is copied that does not fit into the frame.
struct TableEncoder: ~Copyable {
    private var memory = CMemory()
    private var fields = 0
    /// The encoded size of the strings and tables added since ``begin(room:)``.
    private(set) var size = 0
    private(set) var room = 0

    /// Begins the arguments of a method or the properties of a message, for which a frame has `room` bytes.
    mutating func begin(room: Int) {
        memory.recycle()
        fields = 0
        size = 0
        self.room = room
    }

    /// A short string: at most 255 bytes without NUL, unless its text contains escapes of another client's bytes (``ShortString``).
    mutating func shortString(_ string: String, _ field: @autoclosure () -> String) throws(EncodingError)
        -> amqp_bytes_t
    {
        let count = string.utf8.count
        guard count <= 255 else {
            guard ShortString.hasEscapes(string) else {
                throw .shortStringTooLong(field: field(), bytes: count, limit: 255)
            }
            return try escapedShortString(string, field())
        }
        try take(1 + count)
        let bytes = try memory.copy(string)
        let special = bytes.special
        guard !special.containsNUL else { throw .containsNUL(field: field()) }
        guard special.mayHaveEscapes, ShortString.hasEscapes(string) else { return bytes }
        size -= 1 + count
        return try escapedShortString(string, field())
    }

    private mutating func escapedShortString(_ string: String, _ field: String) throws(EncodingError) -> amqp_bytes_t {
        guard !string.utf8.contains(0) else { throw .containsNUL(field: field) }
        let bytes = ShortString.bytes(of: string)
        guard bytes.count <= 255 else { throw .shortStringTooLong(field: field, bytes: bytes.count, limit: 255) }
        try take(1 + bytes.count)
        return try memory.copy(bytes)
    }

    /// A long string of bytes.
    mutating func longString(_ array: [UInt8]) throws(EncodingError) -> amqp_bytes_t {
        try take(4 + array.count)
        return try memory.copy(array)
    }

    /// A long string of text.
    mutating func longString(_ string: String) throws(EncodingError) -> amqp_bytes_t {
        try take(4 + string.utf8.count)
        return try memory.copy(string)
    }

    /// A table. The outermost is the first level of nesting.
    mutating func table(_ table: FieldTable, level: Int = 1) throws(EncodingError) -> amqp_table_t {
        try nest(count: table.entries.count, level: level)
        let entries = try memory.allocate(table.entries.count, of: amqp_table_entry_t.self)
        var count = 0
        for entry in table.entries {
            let key = try shortString(entry.key, "the key of a table's field")
            let value = try value(entry.value, level: level)
            entries?.advanced(by: count).initialize(to: amqp_table_entry_t(key: key, value: value))
            count += 1
        }
        return amqp_table_t(num_entries: CInt(count), entries: entries)
    }

    private mutating func array(_ values: [FieldValue], level: Int) throws(EncodingError) -> amqp_array_t {
        try nest(count: values.count, level: level)
        let entries = try memory.allocate(values.count, of: amqp_field_value_t.self)
        var count = 0
        for element in values {
            let value = try value(element, level: level)
            entries?.advanced(by: count).initialize(to: value)
            count += 1
        }
        return amqp_array_t(num_entries: CInt(count), entries: entries)
    }

    private mutating func nest(count: Int, level: Int) throws(EncodingError) {
        guard level <= FrameDecoder.maximumNesting else { throw .nestedTooDeeply(limit: FrameDecoder.maximumNesting) }
        guard count <= FrameDecoder.maximumFields - fields else {
            throw .tooManyFields(limit: FrameDecoder.maximumFields)
        }
        fields += count
        try take(4)
    }

    /// Counts bytes to be written, before anything is copied for them.
    private mutating func take(_ count: Int) throws(EncodingError) {
        size += count
        guard size <= room else { throw .argumentsTooLarge(bytes: size, limit: room) }
    }

    private mutating func value(_ value: FieldValue, level: Int) throws(EncodingError) -> amqp_field_value_t {
        try take(1)
        var field = amqp_field_value_t()
        switch value {
        case .bool(let bool):
            try take(1)
            field.kind = UInt8(ascii: "t")
            field.value.boolean = bool ? 1 : 0
        case .int8(let integer):
            try take(1)
            field.kind = UInt8(ascii: "b")
            field.value.i8 = integer
        case .uint8(let integer):
            try take(1)
            field.kind = UInt8(ascii: "B")
            field.value.u8 = integer
        case .int16(let integer):
            try take(2)
            field.kind = UInt8(ascii: "s")
            field.value.i16 = integer
        case .uint16(let integer):
            try take(2)
            field.kind = UInt8(ascii: "u")
            field.value.u16 = integer
        case .int32(let integer):
            try take(4)
            field.kind = UInt8(ascii: "I")
            field.value.i32 = integer
        case .uint32(let integer):
            try take(4)
            field.kind = UInt8(ascii: "i")
            field.value.u32 = integer
        case .int64(let integer):
            try take(8)
            field.kind = UInt8(ascii: "l")
            field.value.i64 = integer
        case .uint64(let integer):
            // RabbitMQ 4.0 and later deliver an `L` as an `l`, so values that fit are sent as `l`.
            try take(8)
            field.kind = UInt8(ascii: integer <= UInt64(Int64.max) ? "l" : "L")
            field.value.u64 = integer
        case .float(let number):
            guard number.isFinite else { throw .notFinite }
            try take(4)
            field.kind = UInt8(ascii: "f")
            field.value.u32 = number.bitPattern
        case .double(let number):
            guard number.isFinite else { throw .notFinite }
            try take(8)
            field.kind = UInt8(ascii: "d")
            field.value.u64 = number.bitPattern
        case .decimal(let scale, let number):
            try take(5)
            field.kind = UInt8(ascii: "D")
            field.value.decimal = amqp_decimal_t(decimals: scale, value: number)
        case .string(let text):
            field.kind = UInt8(ascii: "S")
            field.value.bytes = try longString(text)
        case .bytes(let bytes):
            field.kind = UInt8(ascii: "x")
            field.value.bytes = try longString(bytes)
        case .array(let values):
            field.kind = UInt8(ascii: "A")
            field.value.array = try array(values, level: level + 1)
        case .timestamp(let seconds):
            try take(8)
            field.kind = UInt8(ascii: "T")
            field.value.u64 = seconds
        case .table(let nested):
            field.kind = UInt8(ascii: "F")
            field.value.table = try table(nested, level: level + 1)
        case .void:
            field.kind = UInt8(ascii: "V")
        }
        return field
    }
}
