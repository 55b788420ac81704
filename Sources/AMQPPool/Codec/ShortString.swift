/// The conversion of AMQP's short strings to text. Names, ids, routing keys and table keys are up to 255 *bytes*, and nearly always UTF-8.
///
/// UTF-8 is decoded as usual. Each byte that is not UTF-8 (and a NUL, which other clients can send) becomes one character of Unicode's last
/// private-use range: `U+10FF00` plus the byte. Text is encoded by the inverse rule. Every id and name of another client can therefore be
/// compared, stored and sent back byte for byte, and different ones stay different.
///
///     ShortString.text(of: [0x61, 0xFF])          // "a\u{10FFFF}"
///     ShortString.bytes(of: "a\u{10FFFF}")        // [0x61, 0xFF]
///
/// UTF-8 that itself contains characters of that range is escaped byte by byte too.
public enum ShortString {
    private static let escapes: ClosedRange<UInt32> = 0x10FF00...0x10FFFF
    /// The first byte of the UTF-8 of the characters in ``escapes``, and of few others.
    static let firstByteOfEscapes: UInt8 = 0xF4

    /// The text for these bytes.
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

    /// The bytes for this text.
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

    /// Whether the text contains escapes, so that its bytes differ from its UTF-8.
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
