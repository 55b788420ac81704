/// Validates incoming tables and properties before librabbitmq's decoder reads them, in memory-safe Swift.
///
/// That decoder (0.11) checks every read against the end of the frame and rejects unknown kinds, but it
/// - recurses into tables and arrays without a limit: 128 kB of nesting is more than 20,000 C stack frames;
/// - shifts by more than the width of its flags when a third flag word follows, which is undefined behaviour;
/// - uses a table's length to stop looking for entries, not as a bound: the last entry may extend past it, and the values of a nested table
///   may belong to its parent;
/// - allocates 24 to 40 bytes for a value that may take one byte on the wire.
///
/// Validated input has none of these problems: every table and array ends exactly where its length says, within the enclosing one, at most
/// ``FrameDecoder/maximumNesting`` levels deep, with at most ``FrameDecoder/maximumFields`` values, and every value has one of the kinds
/// listed below. The outermost table is the first level.
struct TableCheck {
    private(set) var offset: Int
    private var fields = 0

    init(at offset: Int) {
        self.offset = offset
    }

    /// Validates one table, including its length.
    mutating func table(in bytes: Span<UInt8>, level: Int = 1) throws(PropertiesError) {
        try table(in: bytes, end: bytes.count, level: level)
    }

    /// Validates all properties of a message, which must end with `bytes`.
    static func properties(_ bytes: Span<UInt8>) throws(PropertiesError) {
        var check = TableCheck(at: 0)
        let flags = try check.integer(in: bytes, end: bytes.count, width: 2)
        guard flags & 0b11 == 0 else { throw .undefinedFlags }
        for flag in (2...15).reversed() where flags & (1 << flag) != 0 {
            switch flag {
            case headersFlag: try check.table(in: bytes)
            case 12, 11: try check.skip(1, end: bytes.count)
            case 6: try check.skip(8, end: bytes.count)
            default: try check.skip(check.integer(in: bytes, end: bytes.count, width: 1), end: bytes.count)
            }
        }
        guard check.offset == bytes.count else { throw .malformed }
    }

    /// The index of ``MessageProperties/headers`` among the flags.
    static let headersFlag = 13

    /// Where the header table of a message's properties begins and ends, regardless of its contents.
    static func headers(_ bytes: Span<UInt8>) throws(PropertiesError) -> (start: Int, end: Int) {
        var check = TableCheck(at: 0)
        let flags = try check.integer(in: bytes, end: bytes.count, width: 2)
        for flag in (headersFlag + 1...15).reversed() where flags & (1 << flag) != 0 {
            try check.shortString(in: bytes)
        }
        let start = check.offset
        if flags & (1 << headersFlag) != 0 {
            try check.skip(check.integer(in: bytes, end: bytes.count, width: 4), end: bytes.count)
        }
        return (start, check.offset)
    }

    /// Skips a short string.
    mutating func shortString(in bytes: Span<UInt8>) throws(PropertiesError) {
        try skip(integer(in: bytes, end: bytes.count, width: 1), end: bytes.count)
    }

    /// Skips `count` bytes. `count` comes from the wire: it is compared with the remaining length before it is added.
    mutating func skip(_ count: Int, end: Int) throws(PropertiesError) {
        guard count <= end - offset else { throw .malformed }
        offset += count
    }

    private mutating func table(in bytes: Span<UInt8>, end: Int, level: Int) throws(PropertiesError) {
        let end = try nested(in: bytes, end: end, level: level)
        while offset < end {
            try skip(integer(in: bytes, end: end, width: 1), end: end)
            try value(in: bytes, end: end, level: level)
        }
    }

    private mutating func array(in bytes: Span<UInt8>, end: Int, level: Int) throws(PropertiesError) {
        let end = try nested(in: bytes, end: end, level: level)
        while offset < end {
            try value(in: bytes, end: end, level: level)
        }
    }

    /// Reads the length of a table or array and returns where it ends.
    private mutating func nested(in bytes: Span<UInt8>, end: Int, level: Int) throws(PropertiesError) -> Int {
        guard level <= FrameDecoder.maximumNesting else { throw .nestedTooDeeply }
        let count = try integer(in: bytes, end: end, width: 4)
        guard count <= end - offset else { throw .malformed }
        return offset + count
    }

    private mutating func value(in bytes: Span<UInt8>, end: Int, level: Int) throws(PropertiesError) {
        fields += 1
        guard fields <= FrameDecoder.maximumFields else { throw .tooManyFields }
        switch try UInt8(integer(in: bytes, end: end, width: 1)) {
        case UInt8(ascii: "V"): break
        case UInt8(ascii: "t"), UInt8(ascii: "b"), UInt8(ascii: "B"): try skip(1, end: end)
        case UInt8(ascii: "s"), UInt8(ascii: "u"): try skip(2, end: end)
        case UInt8(ascii: "I"), UInt8(ascii: "i"), UInt8(ascii: "f"): try skip(4, end: end)
        case UInt8(ascii: "D"): try skip(5, end: end)
        case UInt8(ascii: "l"), UInt8(ascii: "L"), UInt8(ascii: "d"), UInt8(ascii: "T"): try skip(8, end: end)
        case UInt8(ascii: "S"), UInt8(ascii: "x"): try skip(integer(in: bytes, end: end, width: 4), end: end)
        case UInt8(ascii: "A"): try array(in: bytes, end: end, level: level + 1)
        case UInt8(ascii: "F"): try table(in: bytes, end: end, level: level + 1)
        default: throw .malformed
        }
    }

    /// An unsigned big-endian integer of one, two or four bytes.
    private mutating func integer(in bytes: Span<UInt8>, end: Int, width: Int) throws(PropertiesError) -> Int {
        guard width <= end - offset else { throw .malformed }
        var result = 0
        for index in offset..<offset + width {
            result = result << 8 | Int(bytes[index])
        }
        offset += width
        return result
    }
}
