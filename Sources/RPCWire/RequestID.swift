/// A call's identity: 128 random bits, written as a version 4 UUID (RFC 9562) on the wire.
///
/// The same id stands in `correlation_id` and `message_id`, and in every retry of the call. It is compared and hashed as
/// two integers: text is made once a call and read once a reply.
package struct RequestID: Sendable, Hashable {
    /// The first eight bytes of the UUID, most significant first.
    package let high: UInt64
    /// The last eight bytes of the UUID, most significant first.
    package let low: UInt64

    /// A new id that no other call has.
    package init() {
        var generator = SystemRandomNumberGenerator()
        self.init(using: &generator)
    }

    /// An id from the bits of a generator; a seeded one makes tests repeatable.
    package init(using generator: inout some RandomNumberGenerator) {
        high = generator.next() & 0xFFFF_FFFF_FFFF_0FFF | 0x4000
        low = generator.next() & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
    }

    /// Reads the 36 characters of a UUID, in either case; anything else is not an id of ours.
    package init?(_ text: String) {
        var text = text
        let digits = text.withUTF8 { bytes in Self.digits(bytes) }
        guard let digits else { return nil }
        (high, low) = digits
    }

    private static func digits(_ bytes: UnsafeBufferPointer<UInt8>) -> (UInt64, UInt64)? {
        guard bytes.count == 36 else { return nil }
        var high: UInt64 = 0
        var low: UInt64 = 0
        var digits = 0
        for (index, byte) in bytes.enumerated() {
            switch index {
            case 8, 13, 18, 23:
                guard byte == UInt8(ascii: "-") else { return nil }
            default:
                guard let value = Self.value(ofDigit: byte) else { return nil }
                if digits < 16 { high = high << 4 | value } else { low = low << 4 | value }
                digits += 1
            }
        }
        return (high, low)
    }

    private static func value(ofDigit byte: UInt8) -> UInt64? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt64(byte - UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt64(byte - UInt8(ascii: "a") + 10)
        case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt64(byte - UInt8(ascii: "A") + 10)
        default: nil
        }
    }
}

extension RequestID: CustomStringConvertible {
    /// The UUID in lower case, 36 characters.
    package var description: String {
        String(unsafeUninitializedCapacity: 36) { bytes in
            var position = 0
            for digit in 0..<32 {
                if position == 8 || position == 13 || position == 18 || position == 23 {
                    bytes[position] = UInt8(ascii: "-")
                    position += 1
                }
                let word = digit < 16 ? high : low
                let nibble = UInt8(truncatingIfNeeded: word >> UInt64((15 - digit & 15) * 4)) & 15
                bytes[position] = nibble < 10 ? UInt8(ascii: "0") + nibble : UInt8(ascii: "a") + nibble - 10
                position += 1
            }
            return position
        }
    }
}
