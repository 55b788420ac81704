internal import ConcurrencyPrimitives

/// An invalid or missing setting in the configuration of the process.
public enum SettingError: Error, Sendable, Hashable {
    /// A required setting is missing.
    case missing(key: String)
    /// It cannot be parsed. `value` is `nil` if it may be a secret.
    case invalid(key: String, value: String?, expected: String)
}

extension SettingError: CustomStringConvertible {
    /// The setting, its name in the environment, and the expected value. Never a secret.
    public var description: String {
        switch self {
        case .missing(let key): "the setting \"\(key)\" (in the environment \(Self.variable(key))) is missing"
        case .invalid(let key, let value, let expected):
            "the setting \"\(key)\" (in the environment \(Self.variable(key))) "
                + (value.map { "is \"\($0)\", and not " } ?? "is not ") + expected
        }
    }

    /// The environment variable of a key behind the prefix of its scope.
    static func variable(_ key: String) -> String {
        "…_" + key.uppercased().map { $0 == "." ? "_" : String($0) }.joined()
    }
}

/// The settings of a process, from any source, as text values by key.
package struct SettingValues: Sendable {
    /// The text of a value.
    var text: @Sendable (_ key: String, _ isSecret: Bool) -> String?
    /// The elements of a value, if the source has lists; otherwise its parts, separated by commas.
    var list: @Sendable (_ key: String, _ isSecret: Bool) -> [String]?

    init(
        text: @escaping @Sendable (_ key: String, _ isSecret: Bool) -> String?,
        list: @escaping @Sendable (_ key: String, _ isSecret: Bool) -> [String]? = { _, _ in nil }
    ) {
        self.text = text
        self.list = list
    }

    package init(_ values: [String: String]) {
        self.init(text: { key, _ in values[key] })
    }

    func string(_ setting: some Setting) -> String? {
        text(setting.rawValue, setting.isSecret)
    }

    func strings(_ setting: some Setting) -> [String]? {
        if let list = list(setting.rawValue, setting.isSecret) { return list }
        let parts = string(setting)?.split(separator: ",").map(Self.trimmed).filter { !$0.isEmpty }
        return parts?.isEmpty == false ? parts : nil
    }

    package func int(_ setting: some Setting, in range: ClosedRange<Int>) throws(SettingError) -> Int? {
        try read(setting, "a whole number from \(range.lowerBound) to \(range.upperBound)") { text in
            Int(text).flatMap { range.contains($0) ? $0 : nil }
        }
    }

    package func bool(_ setting: some Setting) throws(SettingError) -> Bool? {
        try read(setting, "true or false") { text in
            switch text.lowercased() {
            case "true", "yes", "1": true
            case "false", "no", "0": false
            default: nil
            }
        }
    }

    package func duration(_ setting: some Setting) throws(SettingError) -> Duration? {
        try read(setting, "a duration such as 250ms, 5s, 2m or 1h", Duration.init(setting:))
    }

    package func word<Value>(_ setting: some Setting, _ words: KeyValuePairs<String, Value>) throws(SettingError)
        -> Value?
    {
        try read(setting, "one of \(words.map(\.key).joined(separator: ", "))") { text in
            words.first { $0.key == text.lowercased() }?.value
        }
    }

    private func read<Value>(
        _ setting: some Setting,
        _ expected: String,
        _ parse: (String) -> Value?
    ) throws(SettingError) -> Value? {
        guard let text = string(setting).map(Self.trimmed), !text.isEmpty else { return nil }
        guard let value = parse(text) else {
            throw .invalid(key: setting.rawValue, value: setting.isSecret ? nil : text, expected: expected)
        }
        return value
    }

    private static func trimmed(_ text: some StringProtocol) -> String {
        String(text.drop { $0.isWhitespace }.reversed().drop { $0.isWhitespace }.reversed())
    }
}

/// The settings of one component, by key.
package protocol Setting: RawRepresentable<String>, CaseIterable, Sendable {
    var isSecret: Bool { get }
}

extension Setting {
    package var isSecret: Bool { false }
}

extension Duration {
    /// Parses "250ms", "1.5s", "2m", "1h"; a number alone is in seconds.
    fileprivate init?(setting text: String) {
        let number = text.prefix { $0.isNumber || $0 == "." }
        let seconds: Double
        switch text.dropFirst(number.count).drop(while: \.isWhitespace) {
        case "ms": seconds = 0.001
        case "", "s": seconds = 1
        case "m": seconds = 60
        case "h": seconds = 3600
        default: return nil
        }
        guard let value = Double(number), value.isFinite else { return nil }
        self = Duration.seconds(1).scaled(by: value * seconds)
    }
}

/// A configuration that takes settings of the process: what they do not name keeps its default.
package protocol SettingReadable {
    static var defaults: Self { get }

    /// Takes what the settings name.
    mutating func read(_ values: SettingValues) throws(SettingError)
}

extension SettingReadable {
    /// What the settings name, and the defaults for the rest, without a pool's.
    package init(withoutPool values: SettingValues) throws(SettingError) {
        self = .defaults
        try read(values)
    }
}

/// One with a pool in it, whose settings stand beside its own.
package protocol PoolSettingReadable: SettingReadable {
    var pool: PoolConfiguration { get set }
}

extension PoolSettingReadable {
    /// What the settings name, and the defaults for the rest.
    package init(_ values: SettingValues) throws(SettingError) {
        self = .defaults
        pool = try PoolConfiguration(values)
        try read(values)
    }
}
