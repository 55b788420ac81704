/// The description of a child, immutable and shared by all its incarnations.
final class ChildSpecification: SupervisorCore.Settings, @unchecked Sendable {
    // Sendable: it adds immutable `Sendable` properties.
    enum Kind: Sendable {
        case actor(Body)
        /// Indirect, so that a child that is not a supervisor does not take the size of a supervisor's description.
        indirect case supervisor(SupervisorSpecification)
    }

    /// How an incarnation is started.
    enum Start: Sendable {
        typealias InTask = nonisolated(nonsending) @Sendable (ChildContext) async throws -> (any Actor)?
        typealias Inline = @Sendable (ChildContext) throws -> (any Actor)?

        /// In its own task.
        case inTask(InTask)
        /// On the thread that triggers the start.
        case inline(Inline)

        var isInTask: Bool {
            switch self {
            case .inTask: true
            case .inline: false
            }
        }

        nonisolated(nonsending) func callAsFunction(_ context: ChildContext) async throws -> (any Actor)? {
            switch self {
            case .inTask(let start): try await start(context)
            case .inline(let start): try start(context)
            }
        }
    }

    /// The type-erased actor of a child.
    struct Body: Sendable {
        typealias Run = @Sendable (any Actor, ChildContext) async throws -> Void

        var type: any Actor.Type
        var start: Start
        var run: Run?
        var terminate: (@Sendable (any Actor, ExitReason) async -> Void)?
        var onKill: (@Sendable (any Actor) async -> Void)?

        static func worker<W: Worker>(
            _ start: nonisolated(nonsending) @escaping @Sendable (ChildContext) async throws -> W?,
            onKill: (@Sendable (W) async -> Void)?
        ) -> Body {
            Body(
                type: W.self,
                start: .inTask(start),
                run: { actor, _ in try await (actor as? W)?.run() },
                terminate: { await ($0 as? W)?.terminate(reason: $1) },
                onKill: erase(onKill)
            )
        }

        /// A copy with another start closure.
        func starting(_ start: @escaping Start.InTask) -> Body {
            var body = self
            body.start = .inTask(start)
            return body
        }

        static func erase<A: Actor>(
            _ hook: (@Sendable (A) async -> Void)?
        ) -> (@Sendable (any Actor) async -> Void)? {
            guard let hook else { return nil }
            return { actor in
                if let actor = actor as? A { await hook(actor) }
            }
        }
    }

    let kind: Kind
    /// Whether its start closure may begin on the thread of a caller who waits for it: see ``WaitingThread``. With a timeout it may not, so
    /// that the caller hears of the timeout in time even if the closure blocks its thread.
    let mayStartOnWaitingThread: Bool
    /// The first problem with this specification, `nil` if it is valid. Found once: a template starts many children.
    private let problem: String?

    init(id: String, policy: ChildPolicy, kind: Kind) {
        self.kind = kind
        mayStartOnWaitingThread =
            switch kind {
            case .actor(let body): body.start.isInTask && policy.options.startTimeout == nil
            case .supervisor: false
            }
        problem = ChildSpecification.problem(id, policy, kind)
        super.init(id: id, policy: policy)
    }

    /// A copy with another body.
    func replacing(_ body: Body) -> ChildSpecification {
        ChildSpecification(id: id, policy: policy, kind: .actor(body))
    }

    /// The first problem with this specification under this supervisor, `nil` if it is valid; ``SupervisorSpecification/problem`` checks a
    /// supervisor's own children.
    func problem(under supervisor: SupervisorSpecification) -> String? {
        if let problem { return problem }
        guard isSignificant, !supervisor.autoShutdown.observesChildren else { return nil }
        return "'\(id)' is significant, but supervisor '\(supervisor.name)' never shuts down automatically: "
            + "give it an autoShutdown or make the child not significant"
    }

    /// The same, including its descendants.
    func problemInTree(under supervisor: SupervisorSpecification) -> String? {
        if let problem = problem(under: supervisor) { return problem }
        if case .supervisor(let specification) = kind { return specification.problem }
        return nil
    }

    private static func problem(_ id: String, _ policy: ChildPolicy, _ kind: Kind) -> String? {
        if id.isEmpty { return "a child's id must not be empty" }
        if id.utf8.contains(UInt8(ascii: "/")) { return "a child's id must not contain '/', but is '\(id)'" }
        if policy.options.startTimeout != nil, case .actor(let body) = kind, case .inline = body.start {
            return
                "startTimeout of '\(id)' cannot be enforced: nothing can interrupt an inline start; use Child(_:start:)"
        }
        return policy.problem(of: id)
    }
}
