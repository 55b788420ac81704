extension Chaos {
    /// Something that holds whatever has been ended, when the tree has settled.
    ///
    ///     Chaos.Invariant("every account answers") { scene in
    ///         let accounts = try scene.tree.supervisor.child("accounts", as: Accounts.self)
    ///         _ = try await accounts.call { $0.balance(of: "alice") }
    ///     }
    ///
    /// One that has to know how it was before, or to have something under way while processes end, says what to do before, and gets
    /// it back after:
    ///
    ///     Chaos.Invariant("calls that wait are answered") { tree in
    ///         startCalls(tree)
    ///     } check: { scene, calls in
    ///         for call in calls { _ = try await call.value }
    ///     }
    public struct Invariant: Sendable {
        /// What an invariant looks at.
        public struct Scene: Sendable {
            /// The live tree.
            public var tree: LiveTree
            /// What was ended just before.
            public var kills: [Chaos.Scenario.Kill]
            /// What that did to the tree.
            public var effects: Chaos.Effects
        }

        typealias Check = @Sendable (Scene) async throws -> Void

        /// As a sentence.
        public var name: String
        /// Whether it holds when the root has ended, too, and is checked then. By default only what lives is looked at.
        public var holdsAfterTheEnd = false
        let prepare: @Sendable (LiveTree) async throws -> Check

        /// - Parameters:
        ///   - name: What holds, as a sentence.
        ///   - check: Throws when it does not hold.
        public init(_ name: String, check: @escaping @Sendable (Scene) async throws -> Void) {
            self.name = name
            prepare = { _ in check }
        }

        /// - Parameters:
        ///   - name: What holds, as a sentence.
        ///   - before: Runs before processes are ended.
        ///   - check: Throws when it does not hold; gets what `before` returned.
        public init<Before: Sendable>(
            _ name: String,
            before: @escaping @Sendable (LiveTree) async throws -> Before,
            check: @escaping @Sendable (Scene, Before) async throws -> Void
        ) {
            self.name = name
            prepare = { tree in
                let state = try await before(tree)
                return { try await check($0, state) }
            }
        }

        /// An error for a check to throw.
        public struct Violation: Error, Equatable, CustomStringConvertible {
            /// What is wrong.
            public var description: String

            /// What is wrong.
            public init(_ description: String) { self.description = description }
        }
    }
}

extension Chaos {
    /// Throws ``Chaos/Invariant/Violation`` when the condition does not hold: for the checks of an ``Chaos/Invariant``.
    public static func require(
        _ condition: Bool,
        _ message: @autoclosure () -> String
    ) throws(Chaos.Invariant.Violation) {
        if !condition { throw Chaos.Invariant.Violation(message()) }
    }
}
