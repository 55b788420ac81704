/// The version of a program, for example RabbitMQ's `4.0.5` or Erlang's `27`.
///
///     if await broker.version >= BrokerVersion(4, 0) { ... }
public struct BrokerVersion: Sendable, Hashable, Comparable, CustomStringConvertible {
    /// The first number.
    public var major: Int
    /// The second number; 0 if absent.
    public var minor: Int
    /// The third number; 0 if absent.
    public var patch: Int

    /// Creates a version from its numbers.
    public init(_ major: Int, _ minor: Int = 0, _ patch: Int = 0) {
        self.major = major
        self.minor = minor
        self.patch = patch
    }

    /// Parses `27`, `4.3`, `4.0.5` and `4.3.0-rc.1`, whose suffix is ignored; `nil` if the text does not begin with a number.
    public init?(_ text: String) {
        let numbers = text.split(separator: ".", omittingEmptySubsequences: false).prefix(3).map { part in
            Int(part.prefix { $0.isASCII && $0.isNumber })
        }
        guard let first = numbers.first, let major = first else { return nil }
        let others = numbers.dropFirst().map { $0 ?? 0 } + [0, 0]
        self.init(major, others[0], others[1])
    }

    /// Three numbers, for example `4.0.5`.
    public var description: String { "\(major).\(minor).\(patch)" }

    /// Compares the first numbers, then the second, then the third.
    public static func < (left: BrokerVersion, right: BrokerVersion) -> Bool {
        (left.major, left.minor, left.patch) < (right.major, right.minor, right.patch)
    }
}

/// The versions that a node reported when it was ready.
struct NodeVersions: Sendable {
    var rabbitMQ: BrokerVersion
    var erlang: BrokerVersion
}
