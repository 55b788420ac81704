import Foundation
import Synchronization

/// One public number, and what is done with each of its extreme values.
struct Setting: Sendable {
    struct Trial: Sendable {
        var value: String
        /// Whether nothing can be done within this time.
        var isNoTime: Bool
        var run: @Sendable () async throws -> Void
    }

    /// As ``PublicNumbers`` names it.
    var name: String
    /// What an error calls it.
    var words: [String]
    var trials: [Trial]
    /// With no time at all, whatever is reported is right.
    var isDeadline = false

    init(_ name: String, words: [String], trials: [Trial], isDeadline: Bool = false) {
        self.name = name
        self.words = words
        self.trials = trials
        self.isDeadline = isDeadline
    }

    /// Uses each extreme value.
    init<Value: HasExtremes>(
        _ name: String,
        _ type: Value.Type = Value.self,
        deadline: Bool = false,
        called words: String...,
        use: @escaping @Sendable (Value) async throws -> Void
    ) {
        let last = name.split { $0 == "." || $0 == "#" }.last.map(String.init) ?? name
        let trials = Value.extremes.map { value in
            Trial(value: "\(value)", isNoTime: value.isNoTime) { try await use(value) }
        }
        self.init(name, words: [last] + words, trials: trials, isDeadline: deadline)
    }
}

/// A type whose values at the edge are known.
protocol HasExtremes: Sendable {
    static var extremes: [Self] { get }
    var isNoTime: Bool { get }
}

extension HasExtremes {
    var isNoTime: Bool { false }
}

extension Duration: HasExtremes {
    static let longest = Duration(secondsComponent: .max, attosecondsComponent: 999_999_999_999_999_999)
    static let shortest = Duration(secondsComponent: .min, attosecondsComponent: -999_999_999_999_999_999)

    static var extremes: [Duration] { [.zero, .nanoseconds(1), .seconds(-1), longest, shortest] }
    var isNoTime: Bool { self < .milliseconds(1) }
}

extension HasExtremes where Self: FixedWidthInteger {
    static var extremes: [Self] { isSigned ? [0, 0 - 1, max, min] : [0, 1, max] }
}

extension Int: HasExtremes {}
extension Int8: HasExtremes {}
extension Int16: HasExtremes {}
extension Int32: HasExtremes {}
extension Int64: HasExtremes {}
extension UInt8: HasExtremes {}
extension UInt16: HasExtremes {}
extension UInt32: HasExtremes {}
extension UInt64: HasExtremes {}

extension Double: HasExtremes {
    static var extremes: [Double] {
        [
            0, -1, .greatestFiniteMagnitude, -.greatestFiniteMagnitude, .infinity, -.infinity, .nan,
            .leastNonzeroMagnitude,
        ]
    }
}

/// The settings of one type, each tried with the defaults of the others.
struct SettingsOf<Root: Sendable>: Sendable {
    let type: String
    let make: @Sendable () throws -> Root
    let use: @Sendable (Root) async throws -> Void

    init(
        _ type: String,
        _ make: @escaping @Sendable () throws -> Root,
        use: @escaping @Sendable (Root) async throws -> Void
    ) {
        self.type = type
        self.make = make
        self.use = use
    }

    func callAsFunction<Value: HasExtremes>(
        _ field: String,
        _ path: any WritableKeyPath<Root, Value> & Sendable,
        deadline: Bool = false,
        called words: String...
    ) -> Setting {
        setting(field, deadline, words) { $0[keyPath: path] = $1 }
    }

    func callAsFunction<Value: HasExtremes>(
        _ field: String,
        _ path: any WritableKeyPath<Root, Value?> & Sendable,
        deadline: Bool = false,
        called words: String...
    ) -> Setting {
        setting(field, deadline, words) { $0[keyPath: path] = $1 }
    }

    private func setting<Value: HasExtremes>(
        _ field: String,
        _ isDeadline: Bool,
        _ words: [String],
        _ set: @escaping @Sendable (inout Root, Value) -> Void
    ) -> Setting {
        let trials = Value.extremes.map { value in
            Setting.Trial(value: "\(value)", isNoTime: value.isNoTime) { [make, use] in
                var root = try make()
                set(&root, value)
                try await use(root)
            }
        }
        return Setting("\(type).\(field)", words: [field] + words, trials: trials, isDeadline: isDeadline)
    }
}
