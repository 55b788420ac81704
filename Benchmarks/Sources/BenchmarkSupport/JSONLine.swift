import Foundation

/// One line of JSON on standard output: what a run of a benchmark found.
public struct JSONLine {
    private var parts: [String] = []

    /// An empty object.
    public init() {}

    /// Adds a text.
    public mutating func add(_ key: String, _ value: String) {
        let escaped = value.replacingOccurrences(of: "\\", with: "\\\\").replacingOccurrences(of: "\"", with: "\\\"")
        parts.append("\"\(key)\":\"\(escaped)\"")
    }

    /// Adds a whole number.
    public mutating func add(_ key: String, _ value: some FixedWidthInteger) {
        parts.append("\"\(key)\":\(value)")
    }

    /// Adds a number with three decimals; what is no number (an average of nothing) is 0.
    public mutating func add(_ key: String, _ value: Double) {
        parts.append("\"\(key)\":\(value.isFinite ? String(format: "%.3f", value) : "0")")
    }

    /// Writes it, as one line.
    public func print() {
        // Nobody may be reading any more.
        try? FileHandle.standardOutput.write(contentsOf: Data(("{" + parts.joined(separator: ",") + "}\n").utf8))
    }
}
