/// Looks at incoming tables and properties before librabbitmq's decoder does, in memory-safe Swift.
///
/// That decoder (0.11) checks every read against the end of the frame and refuses unknown kinds, but it
/// - recurses into tables and arrays without a limit: 128 kB of nesting is more than 20,000 C stack frames;
/// - shifts by more than the width of its flags when a third flag word follows, which is undefined behaviour;
/// - takes a table's length as where to stop looking for entries, not as a bound: the last entry may reach past it, and
///   the values of a table nested in it may belong to its parent;
/// - allocates 24 to 40 bytes for a value that may take one byte on the wire.
///
/// What passes here has none of these: every table and array ends exactly where its length says, within the one around
/// it, at most ``FrameDecoder/maximumNesting`` levels deep, with at most ``FrameDecoder/maximumFields`` values, and every
/// value is of a kind in the list below. The outermost table is the first level.
struct TableCheck {
    private(set) var offset: Int
    private var fields = 0

    init(at offset: Int) {
        self.offset = offset
    }

    /// Passes over one table with its length.
    mutating func table(in bytes: Span<UInt8>, level: Int = 1) throws(PropertiesError) {
        try table(in: bytes, end: bytes.count, level: level)
    }

    /// Passes over all of a message's properties, which must end with `bytes`.
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

    /// The place of ``MessageProperties/headers`` among the flags.
    static let headersFlag = 13

    /// Where the header table of a message's properties begins and ends, whatever is in it.
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

    /// Passes over a short string.
    mutating func shortString(in bytes: Span<UInt8>) throws(PropertiesError) {
        try skip(integer(in: bytes, end: bytes.count, width: 1), end: bytes.count)
    }

    /// Passes over `count` bytes. `count` comes from the wire: it is compared with what is left, never added first.
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
