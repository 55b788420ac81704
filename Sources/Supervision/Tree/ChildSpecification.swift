/// The description of a child, from which every incarnation of it is made. It does not change, and all incarnations share it.
final class ChildSpecification: SupervisorCore.Settings, @unchecked Sendable {
    // Sendable: it adds one immutable `Sendable` property.
    enum Kind: Sendable {
        case actor(Body)
        /// Apart, so that a child that is no supervisor is not as large as the description of one.
        indirect case supervisor(SupervisorSpecification)
    }

    /// How an incarnation is made.
    enum Start: Sendable {
        typealias Inline = @Sendable (ChildContext) throws -> (any Actor)?

        /// In a task of its own.
        case inTask(@Sendable (ChildContext) async throws -> (any Actor)?)
        /// On the thread of whoever brings the news that it is to be started.
        case inline(Inline)

        func callAsFunction(_ context: ChildContext) async throws -> (any Actor)? {
            switch self {
            case .inTask(let start): try await start(context)
            case .inline(let start): try start(context)
            }
        }
    }

    /// The child's actor without its type: what the supervisor needs to do with it.
    struct Body: Sendable {
        typealias Run = @Sendable (any Actor, ChildContext) async throws -> Void

        var type: any Actor.Type
        var start: Start
        var run: Run?
        var terminate: (@Sendable (any Actor, ExitReason) async -> Void)?
        var onKill: (@Sendable (any Actor) async -> Void)?

        static func worker<W: Worker>(
            _ start: @escaping @Sendable (ChildContext) async throws -> W?,
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

        /// The same with another start closure.
        func starting(_ start: @escaping @Sendable (ChildContext) async throws -> (any Actor)?) -> Body {
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

    init(id: String, policy: ChildPolicy, kind: Kind) {
        self.kind = kind
        super.init(id: id, policy: policy)
    }

    /// The same with another body.
    func replacing(_ body: Body) -> ChildSpecification {
        ChildSpecification(id: id, policy: policy, kind: .actor(body))
    }

    /// What is wrong with this specification under this supervisor, if anything; a supervisor's own children are looked at by
    /// ``SupervisorSpecification/problem``.
    func problem(under supervisor: SupervisorSpecification) -> String? {
        if let problem { return problem }
        guard isSignificant, !supervisor.autoShutdown.observesChildren else { return nil }
        return "'\(id)' is significant, but supervisor '\(supervisor.name)' never shuts down automatically: "
            + "give it an autoShutdown or make the child not significant"
    }

    /// The same, and what is wrong with its descendants.
    func problemInTree(under supervisor: SupervisorSpecification) -> String? {
        if let problem = problem(under: supervisor) { return problem }
        if case .supervisor(let specification) = kind { return specification.problem }
        return nil
    }

    /// What is wrong with this specification, if anything.
    private var problem: String? {
        if id.isEmpty { return "a child's id must not be empty" }
        if id.utf8.contains(UInt8(ascii: "/")) { return "a child's id must not contain '/', but is '\(id)'" }
        if policy.options.startTimeout != nil, case .actor(let body) = kind, case .inline = body.start {
            return
                "startTimeout of '\(id)' cannot be kept: nothing interrupts an inline start; make it a Child(_:start:)"
        }
        return policy.problem(of: id)
    }
}
