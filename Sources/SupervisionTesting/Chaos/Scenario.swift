extension Chaos {
    /// What is done to a tree: processes are ended, one after another or at once.
    ///
    /// It has a text form, so that a failure can be copied from a log into a test:
    ///
    ///     try await chaos.replay("kill app/db; crash app/cache & hang app/web; +1.5s kill app/db")
    ///
    /// `;` separates steps: the tree settles, and the invariants are checked, before the next step. `&` separates the kills of one step,
    /// which do not wait for each other. `+` is the time that passes before a kill. `outside` precedes the name of a ``Chaos/Fault`` around
    /// the tree: `kill app/db & outside network-cut`.
    public struct Scenario: Sendable, Hashable {
        /// A process to end, or a ``Chaos/Fault`` around the tree.
        public struct Kill: Sendable, Hashable {
            /// Its path, which begins with the root's name; for a fault, its name.
            public var path: String
            /// How it is ended.
            public var way: Way
            /// The time that passes before it.
            public var pause: Duration

            /// Creates the end of the process at `path`.
            public init(_ path: String, _ way: Way, after pause: Duration = .zero) {
                self.path = path
                self.way = way
                self.pause = pause
            }

            /// Creates a fault with this name.
            public static func fault(_ name: String, after pause: Duration = .zero) -> Kill {
                Kill(name, .outside, after: pause)
            }
        }

        /// The kills, step by step.
        public var steps: [[Kill]]

        /// Creates a scenario of these steps.
        public init(_ steps: [[Kill]]) {
            self.steps = steps
        }

        /// The total number of ended processes.
        public var count: Int { steps.reduce(0) { $0 + $1.count } }
    }
}

extension Chaos.Scenario.Kill: CustomStringConvertible {
    /// The text in a scenario.
    public var description: String { (pause > .zero ? "+\(pause / .seconds(1))s " : "") + "\(way) \(path)" }
}

extension Chaos.Scenario: LosslessStringConvertible, ExpressibleByStringLiteral {
    /// The scenario as text.
    public var description: String {
        steps.map { $0.map(\.description).joined(separator: " & ") }.joined(separator: "; ")
    }

    /// Parses the text written by ``description``; `nil` for any other text.
    public init?(_ description: String) {
        var steps: [[Kill]] = []
        for step in description.split(separator: ";") {
            var kills: [Kill] = []
            for text in step.split(separator: "&") {
                guard let kill = Kill(text) else { return nil }
                kills.append(kill)
            }
            steps.append(kills)
        }
        self.init(steps)
    }

    /// A literal that cannot be parsed becomes a scenario without steps, which ``Chaos/replay(_:expecting:)`` rejects.
    public init(stringLiteral value: String) {
        self = Chaos.Scenario(value) ?? Chaos.Scenario([])
    }
}

extension Chaos.Scenario.Kill {
    init?(_ text: Substring) {
        var words = text.split(whereSeparator: \.isWhitespace)
        var pause = Duration.zero
        if let first = words.first, first.hasPrefix("+"), first.hasSuffix("s") {
            guard let seconds = Double(first.dropFirst().dropLast()), seconds >= 0, seconds < 1e9 else { return nil }
            pause = .nanoseconds(Int64((seconds * 1e9).rounded()))
            words.removeFirst()
        }
        guard words.count >= 2, let way = Chaos.Way(String(words[0])) else { return nil }
        self.init(words.dropFirst().joined(separator: " "), way, after: pause)
    }
}
