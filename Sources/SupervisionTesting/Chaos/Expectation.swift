extension Chaos {
    /// What should happen to a tree when one of its processes ends.
    ///
    /// "Restarted" always means: a new incarnation exists, and every process that is not named is the same as before.
    public indirect enum Expectation: Sendable, Hashable {
        /// Nothing is restarted, and nothing is removed.
        case nothing
        /// The ended process and its descendants are restarted.
        case onlyThisChild
        /// These processes, with their descendants, are restarted.
        case group([String])
        /// This supervisor and its descendants are restarted.
        case subtree(of: String)
        /// Everything below the root is restarted.
        case everything
        /// The ended process and its descendants are removed for good.
        case removed
        /// This supervisor exceeds its intensity and ends, with any consequences.
        case supervisorGivesUp(String)
        /// The start is retried again and again, and succeeds as soon as that is possible.
        case keepsTrying
        /// The root ends.
        case treeEnds
        /// Exactly this.
        case effects(Effects)
        /// Like ``isWhole``, but supervisors may have given up in between, and have been restarted by their parents.
        case survives
        /// One of these.
        case oneOf([Expectation])
        /// The tree lives, no supervisor has given up, and every process that existed exists, except temporary and transient ones and their
        /// descendants.
        case isWhole
        /// Any effects are accepted.
        case anything
    }
}

extension Chaos.Expectation: CustomStringConvertible {
    /// The expectation as text.
    public var description: String {
        switch self {
        case .nothing: "nothing"
        case .onlyThisChild: "only this child"
        case .group(let paths): paths.joined(separator: ", ")
        case .subtree(let path): "\(path) and below"
        case .everything: "everything below the root"
        case .removed: "it is gone"
        case .supervisorGivesUp(let path): "\(path) gives up"
        case .keepsTrying: "it is tried again and again"
        case .treeEnds: "the tree ends"
        case .effects(let effects): effects.phrase(in: Shape([]), targets: [])
        case .oneOf(let all): all.map(\.description).joined(separator: ", or ")
        case .isWhole: "the tree is whole again"
        case .survives: "the tree survives"
        case .anything: "anything"
        }
    }
}

extension Chaos.Expectation {
    /// Whether these effects meet the expectation.
    func isMet(by effects: Chaos.Effects, targets: [String], in shape: Shape, permanent: Set<String>) -> Bool {
        switch self {
        case .nothing: return effects == Chaos.Effects()
        case .onlyThisChild:
            return effects == Chaos.Effects(restarted: targets.reduce(into: []) { $0.formUnion(shape.subtree($1)) })
        case .group(let paths):
            return effects == Chaos.Effects(restarted: paths.reduce(into: []) { $0.formUnion(shape.subtree($1)) })
        case .subtree(let path): return effects == Chaos.Effects(restarted: shape.subtree(path))
        case .everything:
            return effects == Chaos.Effects(restarted: shape.subtree(shape.root).subtracting([shape.root]))
        case .removed:
            return effects == Chaos.Effects(removed: targets.reduce(into: []) { $0.formUnion(shape.subtree($1)) })
        case .supervisorGivesUp(let path): return effects.gaveUp.contains(path)
        case .keepsTrying: return effects.keepsTrying
        case .treeEnds: return effects.treeEnded
        case .effects(let expected): return effects == expected
        case .oneOf(let all):
            return all.contains { $0.isMet(by: effects, targets: targets, in: shape, permanent: permanent) }
        case .isWhole:
            return !effects.treeEnded && effects.gaveUp.isEmpty && effects.removed.isDisjoint(with: permanent)
        case .survives: return !effects.treeEnded && effects.removed.isDisjoint(with: permanent)
        case .anything: return true
        }
    }

    /// In the format of an outcome, so that both can be compared at a glance.
    func phrase(in shape: Shape, targets: [String]) -> String {
        switch self {
        case .effects(let effects): effects.phrase(in: shape, targets: targets)
        case .oneOf(let all): all.map { $0.phrase(in: shape, targets: targets) }.joined(separator: ", or ")
        case .nothing, .onlyThisChild, .group, .subtree, .everything, .removed, .supervisorGivesUp, .keepsTrying,
            .treeEnds, .survives, .isWhole, .anything:
            description
        }
    }
}
