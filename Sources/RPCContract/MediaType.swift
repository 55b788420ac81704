/// Media types as in `content_type`: `type/subtype; parameter=value`.
enum MediaType {
    /// Whether both are the same type, ignoring parameters and case.
    static func isSame(_ left: String, _ right: String) -> Bool {
        // Fast path: usually they are written identically.
        left == right || essence(of: left) == essence(of: right)
    }

    /// `type/subtype` in lower case.
    static func essence(of text: String) -> String {
        trimmed(text.prefix { $0 != ";" }).lowercased()
    }

    /// The value of a parameter, without its quotes.
    static func parameter(_ name: String, of text: String) -> String? {
        for part in text.split(separator: ";").dropFirst() {
            let pair = part.split(separator: "=", maxSplits: 1)
            guard pair.count == 2, trimmed(pair[0]).lowercased() == name else { continue }
            let value = trimmed(pair[1])
            return value.hasPrefix("\"") && value.hasSuffix("\"") && value.count > 1
                ? String(value.dropFirst().dropLast()) : String(value)
        }
        return nil
    }

    private static func trimmed(_ text: Substring) -> Substring {
        let isSpace = { (character: Character) in character == " " || character == "\t" }
        var rest = text.drop(while: isSpace)
        while rest.last.map(isSpace) == true { rest.removeLast() }
        return rest
    }
}
