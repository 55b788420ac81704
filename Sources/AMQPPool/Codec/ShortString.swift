/// AMQP's short strings as text: names, ids, routing keys and the keys of tables are up to 255 *bytes*, and nearly always UTF-8.
///
/// What is UTF-8 is the text that it is. In anything else, each byte that is not (and a NUL, which other clients can send) stands
/// as one character of Unicode's last private range: `U+10FF00` plus the byte. What is sent is made of text by the same rule. So every
/// id and name that came from elsewhere can be compared, kept and sent back, and is byte for byte what it was; and two that
/// differ stay different.
///
///     ShortString.text(of: [0x61, 0xFF])          // "a\u{10FFFF}"
///     ShortString.bytes(of: "a\u{10FFFF}")        // [0x61, 0xFF]
///
/// UTF-8 that has characters of that range itself is taken for bytes too.
public enum ShortString {
    private static let escapes: ClosedRange<UInt32> = 0x10FF00...0x10FFFF
    /// The first byte of the UTF-8 of what is in ``escapes``, and of little else.
    static let firstByteOfEscapes: UInt8 = 0xF4

    /// The text that stands for these bytes.
    public static func text(of bytes: some Sequence<UInt8>) -> String {
        let bytes = Array(bytes)
        if !bytes.contains(0), let text = String(validating: bytes, as: UTF8.self), !hasEscapes(text) { return text }
        var scalars = String.UnicodeScalarView()
        var rest = bytes[...]
        while let byte = rest.first {
            if let (scalar, length) = firstScalar(of: rest), scalar.value > 0, !escapes.contains(scalar.value) {
                scalars.append(scalar)
                rest = rest.dropFirst(length)
            } else {
                if let escape = Unicode.Scalar(escapes.lowerBound + UInt32(byte)) { scalars.append(escape) }
                rest = rest.dropFirst()
            }
        }
        return String(scalars)
    }

    /// The bytes that this text stands for.
    public static func bytes(of text: String) -> [UInt8] {
        guard hasEscapes(text) else { return Array(text.utf8) }
        var bytes: [UInt8] = []
        for scalar in text.unicodeScalars {
            if escapes.contains(scalar.value) {
                bytes.append(UInt8(truncatingIfNeeded: scalar.value))
            } else {
                bytes += UTF8.encode(scalar).map(Array.init) ?? []
            }
        }
        return bytes
    }

    /// Whether the text stands for other bytes than its UTF-8.
    static func hasEscapes(_ text: String) -> Bool {
        text.utf8.contains(firstByteOfEscapes) && text.unicodeScalars.contains { escapes.contains($0.value) }
    }

    private static func firstScalar(of bytes: ArraySlice<UInt8>) -> (Unicode.Scalar, length: Int)? {
        for length in 1...4 where length <= bytes.count {
            if let text = String(validating: bytes.prefix(length), as: UTF8.self),
                let scalar = text.unicodeScalars.first
            {
                return (scalar, length)
            }
        }
        return nil
    }
}
