package import Logging

extension String {
    /// Whether it contains a character that RabbitMQ removes from names (CR, LF), that AMQP does not allow (NUL), or another control
    /// character.
    package var hasControlCharacter: Bool {
        // Without a branch the loop is vectorized.
        utf8.withContiguousStorageIfAvailable { bytes in
            var found: UInt8 = 0
            for byte in bytes { found |= (byte < 0x20 ? 1 : 0) | (byte == 0x7f ? 1 : 0) }
            return found != 0
        } ?? utf8.contains { $0 < 0x20 || $0 == 0x7f }
    }

    /// The text for terminals: control characters are escaped as in Swift source.
    package var escaped: String {
        if utf8.allSatisfy({ 0x20 <= $0 && $0 < 0x7f }) { return self }
        guard unicodeScalars.contains(where: \.isControl) else { return self }
        return unicodeScalars.reduce(into: "") { text, scalar in
            text += scalar.isControl ? scalar.escaped(asASCII: true) : String(scalar)
        }
    }

    /// The JSON text with control characters escaped as in JSON.
    package var escapedAsJSON: String {
        guard unicodeScalars.contains(where: \.isControl) else { return self }
        return unicodeScalars.reduce(into: "") { text, scalar in
            guard scalar.isControl else { return text.unicodeScalars.append(scalar) }
            for unit in String(scalar).utf16 {
                let digits = String(unit, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            }
        }
    }

    /// The text with control characters escaped, except line breaks and tabs: for text of several lines.
    package var escapedButLines: String {
        unicodeScalars.reduce(into: "") { text, scalar in
            let isKept = !scalar.isControl || scalar == "\n" || scalar == "\t"
            text += isKept ? String(scalar) : scalar.escaped(asASCII: true)
        }
    }
}

extension Unicode.Scalar {
    /// Whether a terminal may interpret it, or a reader be misled by it: control characters (C0, C1, DEL), line and paragraph separators,
    /// and characters that change the direction of text.
    fileprivate var isControl: Bool {
        switch properties.generalCategory {
        case .control, .lineSeparator, .paragraphSeparator: true
        case .format: value != 0x200d
        default: false
        }
    }
}

extension Logger.Metadata {
    /// The metadata with control characters escaped, so that publishers cannot forge log lines.
    package var escaped: Logger.Metadata {
        mapValues { value in
            switch value {
            case .string(let text): .string(text.escaped)
            case .stringConvertible(let value): .string("\(value)".escaped)
            case .array, .dictionary: value
            }
        }
    }
}
