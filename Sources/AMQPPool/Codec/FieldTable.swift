/// A value in a message's headers or in the arguments of a declaration: AMQP 0-9-1's field types with RabbitMQ's type letters.
public enum FieldValue: Sendable, Hashable {
    /// `t`
    case bool(Bool)
    /// `b`
    case int8(Int8)
    /// `B`
    case uint8(UInt8)
    /// `s`
    case int16(Int16)
    /// `u`
    case uint16(UInt16)
    /// `I`
    case int32(Int32)
    /// `i`
    case uint32(UInt32)
    /// `l`
    case int64(Int64)
    /// `L`. Values up to `Int64.max` are sent, and so arrive, as ``int64(_:)``. RabbitMQ 4.0 and later deliver a greater value as a
    /// negative ``int64(_:)``, without an error.
    case uint64(UInt64)
    /// `f`
    case float(Float)
    /// `d`
    case double(Double)
    /// `D`: `value` divided by ten to the power of `scale`.
    case decimal(scale: UInt8, value: UInt32)
    /// `S`, a long string of UTF-8 text.
    case string(String)
    /// `x`; also used for a decoded `S` that is not UTF-8.
    case bytes([UInt8])
    /// `A`
    case array([FieldValue])
    /// `T`: seconds since 1970.
    case timestamp(UInt64)
    /// `F`
    case table(FieldTable)
    /// `V`
    case void
}

/// A field table: named values in the order in which they were written.
///
/// Keys are at most 255 bytes and preserved byte for byte: see ``ShortString``. A table fits into one frame, so lookup is a linear search.
public struct FieldTable: Sendable, Hashable {
    /// The entries, in order. For a repeated key, lookup returns the first entry.
    public private(set) var entries: [Entry]

    /// One named value.
    public struct Entry: Sendable, Hashable {
        /// The field's name.
        public var key: String
        /// The field's value.
        public var value: FieldValue

        /// Creates an entry.
        public init(key: String, value: FieldValue) {
            self.key = key
            self.value = value
        }
    }

    /// Creates an empty table.
    public init() {
        entries = []
    }

    /// Creates a table of these entries, in this order.
    public init(entries: [Entry]) {
        self.entries = entries
    }

    /// Whether the table has no entry.
    public var isEmpty: Bool { entries.isEmpty }

    /// The value of the first entry with this key. Setting it replaces or appends the entry; `nil` removes it.
    public subscript(key: String) -> FieldValue? {
        get { entries.first { $0.key == key }?.value }
        set {
            let index = entries.firstIndex { $0.key == key }
            switch (index, newValue) {
            case (let index?, let value?): entries[index].value = value
            case (let index?, nil): entries.remove(at: index)
            case (nil, let value?): entries.append(Entry(key: key, value: value))
            case (nil, nil): break
            }
        }
    }
}

extension FieldTable: ExpressibleByDictionaryLiteral {
    /// Creates a table from a dictionary literal, in its order.
    public init(dictionaryLiteral elements: (String, FieldValue)...) {
        entries = elements.map { Entry(key: $0.0, value: $0.1) }
    }
}

extension FieldValue: ExpressibleByStringLiteral, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral {
    /// Creates a long string.
    public init(stringLiteral value: String) { self = .string(value) }
    /// Creates a boolean.
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    /// Creates a 64-bit integer.
    public init(integerLiteral value: Int64) { self = .int64(value) }
}
