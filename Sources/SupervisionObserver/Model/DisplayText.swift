import Supervision

/// Makes text from errors, names and the network fit for display: of limited length, in one line, without passwords of URIs.
enum DisplayText {
    static let maximumLength = 300

    static func line(_ text: String, limit: Int = maximumLength) -> String {
        var result = ""
        var count = 0
        for scalar in withoutPasswords(text).unicodeScalars {
            guard count < limit else { return result + "…" }
            result.unicodeScalars.append(isShown(scalar) ? scalar : " ")
            count += 1
        }
        return result
    }

    /// Excludes characters that end the line, hide text or change its direction.
    private static func isShown(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned: false
        default: true
        }
    }

    /// Removes `user:password@` from everything that looks like a URI.
    private static func withoutPasswords(_ text: String) -> String {
        guard text.utf8.contains(UInt8(ascii: "@")) else { return text }
        var parts = text.components(separatedBy: "://")
        for index in parts.indices.dropFirst() {
            let authority = parts[index].prefix { !$0.isWhitespace && !"/?#\"'<>".contains($0) }
            if let at = authority.lastIndex(of: "@") {
                parts[index] = "…" + parts[index][at...]
            }
        }
        return parts.joined(separator: "://")
    }
}

extension String {
    /// The parts between occurrences of a text, with the standard library only.
    fileprivate func components(separatedBy separator: String) -> [String] {
        var parts: [String] = []
        var rest = self[...]
        while let range = rest.firstRange(of: separator) {
            parts.append(String(rest[..<range.lowerBound]))
            rest = rest[range.upperBound...]
        }
        return parts + [String(rest)]
    }
}

/// How much of the errors in exit reasons is shown.
public enum ShownErrors: Sendable, Hashable {
    /// Their text, in one line of at most 300 characters, without passwords of URIs.
    case text
    /// Only their type: for errors whose text may contain users' data.
    case type
}

extension ShownErrors {
    func text(_ reason: ExitReason) -> String {
        switch (self, reason) {
        case (.text, _), (_, .normal), (_, .shutdown(nil)), (_, .killed), (_, .noProcess):
            DisplayText.line("\(reason)")
        case (.type, .shutdown(let cause?)): DisplayText.line("shutdown: \(Swift.type(of: cause))")
        case (.type, .crashed(let error)): DisplayText.line("crashed: \(Swift.type(of: error))")
        }
    }
}

extension Duration {
    var seconds: Double {
        Double(components.seconds) + Double(components.attoseconds) / 1e18
    }

    var milliseconds: Double { seconds * 1000 }
}
