package import Logging

extension String {
    /// Whether it has a character that RabbitMQ removes from names (CR, LF), or that AMQP does not take (NUL), or another of that kind.
    package var hasControlCharacter: Bool {
        // Without a branch in it the loop takes many bytes at a time.
        utf8.withContiguousStorageIfAvailable { bytes in
            var found: UInt8 = 0
            for byte in bytes { found |= (byte < 0x20 ? 1 : 0) | (byte == 0x7f ? 1 : 0) }
            return found != 0
        } ?? utf8.contains { $0 < 0x20 || $0 == 0x7f }
    }

    /// The same for people and terminals: control characters are written as Swift writes them in source.
    package var escaped: String {
        if utf8.allSatisfy({ 0x20 <= $0 && $0 < 0x7f }) { return self }
        guard unicodeScalars.contains(where: \.isControl) else { return self }
        return unicodeScalars.reduce(into: "") { text, scalar in
            text += scalar.isControl ? scalar.escaped(asASCII: true) : String(scalar)
        }
    }

    /// The same JSON text, with such characters written as JSON does.
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

    /// The same, with its line breaks and tabs as they are: for text of several lines.
    package var escapedButLines: String {
        unicodeScalars.reduce(into: "") { text, scalar in
            let isKept = !scalar.isControl || scalar == "\n" || scalar == "\t"
            text += isKept ? String(scalar) : scalar.escaped(asASCII: true)
        }
    }
}

extension Unicode.Scalar {
    /// Whether a terminal may take it for a command, or a reader be misled by it: control characters (C0, C1, DEL), line and paragraph
    /// separators, and those that change the direction of text.
    fileprivate var isControl: Bool {
        switch properties.generalCategory {
        case .control, .lineSeparator, .paragraphSeparator: true
        case .format: value != 0x200d
        default: false
        }
    }
}

extension Logger.Metadata {
    /// The same for a log of lines: what comes from publishers must not be able to write lines of its own into it.
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
