extension Chaos {
    /// A condition that holds whenever the tree has settled, whatever has been ended.
    ///
    ///     Chaos.Invariant("every account answers") { scene in
    ///         let accounts = try scene.tree.supervisor.child("accounts", as: Accounts.self)
    ///         _ = try await accounts.call { $0.balance(of: "alice") }
    ///     }
    ///
    /// An invariant that has to know the state before, or needs something in progress while processes end, has a closure that runs before,
    /// and gets its result after:
    ///
    ///     Chaos.Invariant("calls that wait are answered") { tree in
    ///         startCalls(tree)
    ///     } check: { scene, calls in
    ///         for call in calls { _ = try await call.value }
    ///     }
    public struct Invariant: Sendable {
        /// The context of a check.
        public struct Scene: Sendable {
            /// The live tree.
            public var tree: LiveTree
            /// The kills of the step.
            public var kills: [Chaos.Scenario.Kill]
            /// Their effects on the tree.
            public var effects: Chaos.Effects
        }

        typealias Check = @Sendable (Scene) async throws -> Void

        /// The condition, as a sentence.
        public var name: String
        /// Whether it is also checked when the root has ended. By default only living trees are checked.
        public var holdsAfterTheEnd = false
        let prepare: @Sendable (LiveTree) async throws -> Check

        /// - Parameters:
        ///   - name: The condition, as a sentence.
        ///   - check: Throws when it does not hold.
        public init(_ name: String, check: @escaping @Sendable (Scene) async throws -> Void) {
            self.name = name
            prepare = { _ in check }
        }

        /// - Parameters:
        ///   - name: The condition, as a sentence.
        ///   - before: Runs before processes are ended.
        ///   - check: Throws when it does not hold; gets the result of `before`.
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

            /// Creates a violation.
            public init(_ description: String) { self.description = description }
        }
    }
}

extension Chaos {
    /// Throws ``Chaos/Invariant/Violation`` when the condition is false: for the checks of an ``Chaos/Invariant``.
    public static func require(
        _ condition: Bool,
        _ message: @autoclosure () -> String
    ) throws(Chaos.Invariant.Violation) {
        if !condition { throw Chaos.Invariant.Violation(message()) }
    }
}
