/// The identity of a call: 128 random bits, on the wire a version 4 UUID (RFC 9562).
///
/// The same id is in `correlation_id` and `message_id`, and in every retry of the call. It is compared and hashed as two integers: it is
/// formatted once per call and parsed once per reply.
package struct RequestID: Sendable, Hashable {
    /// The first eight bytes of the UUID, most significant first.
    package let high: UInt64
    /// The last eight bytes of the UUID, most significant first.
    package let low: UInt64

    /// Creates a unique id.
    package init() {
        (high, low) = Self.stamped(RandomBits.pair())
    }

    /// Creates an id from the bits of a generator; a seeded one makes tests repeatable.
    init(using generator: inout some RandomNumberGenerator) {
        (high, low) = Self.stamped((generator.next(), generator.next()))
    }

    /// Sets the version and variant of a random UUID.
    private static func stamped(_ bits: (UInt64, UInt64)) -> (UInt64, UInt64) {
        (bits.0 & 0xFFFF_FFFF_FFFF_0FFF | 0x4000, bits.1 & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000)
    }

    /// Creates an id from a number, unique only among ids of this kind.
    init(number: UInt64) {
        (high, low) = (0, number)
    }

    /// Parses the 36 characters of a UUID, in either case; `nil` for anything else.
    package init?(_ text: String) {
        var text = text
        let digits = text.withUTF8 { bytes in Self.digits(bytes) }
        guard let digits else { return nil }
        (high, low) = digits
    }

    private static func digits(_ bytes: UnsafeBufferPointer<UInt8>) -> (UInt64, UInt64)? {
        let hyphen = UInt8(ascii: "-")
        guard bytes.count == 36, bytes[8] == hyphen, bytes[13] == hyphen, bytes[18] == hyphen, bytes[23] == hyphen,
            let first = number(bytes, 0..<8), let second = number(bytes, 9..<13), let third = number(bytes, 14..<18),
            let fourth = number(bytes, 19..<23), let last = number(bytes, 24..<36)
        else { return nil }
        return (first << 32 | second << 16 | third, fourth << 48 | last)
    }

    private static func number(_ bytes: UnsafeBufferPointer<UInt8>, _ range: Range<Int>) -> UInt64? {
        var number: UInt64 = 0
        for index in range {
            guard let value = value(ofDigit: bytes[index]) else { return nil }
            number = number << 4 | value
        }
        return number
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
        let (first, second) = (Self.digits(UInt32(high >> 32)), Self.digits(UInt32(truncatingIfNeeded: high)))
        let (third, fourth) = (Self.digits(UInt32(low >> 32)), Self.digits(UInt32(truncatingIfNeeded: low)))
        return String(unsafeUninitializedCapacity: 36) { bytes in
            let bytes = UnsafeMutableRawBufferPointer(bytes)
            guard bytes.count >= 36 else { return 0 }
            bytes.storeBytes(of: first.bigEndian, as: UInt64.self)
            bytes.storeBytes(of: UInt32(second >> 32).bigEndian, toByteOffset: 9, as: UInt32.self)
            bytes.storeBytes(of: UInt32(truncatingIfNeeded: second).bigEndian, toByteOffset: 14, as: UInt32.self)
            bytes.storeBytes(of: UInt32(third >> 32).bigEndian, toByteOffset: 19, as: UInt32.self)
            bytes.storeBytes(of: UInt32(truncatingIfNeeded: third).bigEndian, toByteOffset: 24, as: UInt32.self)
            bytes.storeBytes(of: fourth.bigEndian, toByteOffset: 28, as: UInt64.self)
            for hyphen in [8, 13, 18, 23] { bytes[hyphen] = UInt8(ascii: "-") }
            return 36
        }
    }

    /// The eight hexadecimal digits of a number in ASCII, the first in the most significant byte, computed in parallel.
    private static func digits(_ number: UInt32) -> UInt64 {
        var digits = UInt64(number)
        digits = (digits | digits << 16) & 0x0000_FFFF_0000_FFFF
        digits = (digits | digits << 8) & 0x00FF_00FF_00FF_00FF
        digits = (digits | digits << 4) & 0x0F0F_0F0F_0F0F_0F0F
        // 1 in each byte that is 10 or more.
        let letters = (digits &+ 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101
        return digits &+ 0x3030_3030_3030_3030 &+ letters &* UInt64(UInt8(ascii: "a") - UInt8(ascii: "0") - 10)
    }
}
