/// An actor that shows its state to whoever looks after the program: OTP's `sys:get_state/2`.
///
/// Off by default: only an actor that conforms shows anything, and only what it chooses to. ``Pid/stateReport(timeout:)`` and
/// the observer's page of the process ask for it, and nobody else. It is called on the actor, between two pieces of its work, so it
/// should be quick. Show no secrets, and nothing of anybody's messages: reports go into tools and tickets.
///
///     extension Session: StateReporting {
///         func stateReport() -> StateReport { StateReport("idle", ["user": user, "messages": "\(count)"]) }
///     }
public protocol StateReporting: Actor {
    /// What it shows of its state now.
    func stateReport() -> StateReport
}

/// What an actor shows of its state.
public struct StateReport: Sendable, Hashable {
    /// One thing that is shown.
    public struct Field: Sendable, Hashable {
        /// What it is.
        public var name: String
        /// Its value, as text.
        public var value: String

        /// A field.
        public init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }

    /// The state in a few words.
    public var summary: String
    /// The details, in the order in which they are shown.
    public var fields: [Field]

    /// A report.
    public init(_ summary: String, _ fields: KeyValuePairs<String, String> = [:]) {
        self.summary = summary
        self.fields = fields.map { Field(name: $0.key, value: $0.value) }
    }
}

extension StateReport: CustomStringConvertible {
    /// The summary, and a line for each field.
    public var description: String {
        ([summary] + fields.map { "  \($0.name): \($0.value)" }).joined(separator: "\n")
    }
}

extension Pid {
    /// What the process shows of its state, if its actor is ``StateReporting``.
    ///
    /// It is asked on the actor, as in a call, and so answers when it is free. Asking counts as no use of a process under a
    /// ``KeyedSupervisor``.
    ///
    /// - Parameter timeout: The deadline.
    /// - Throws: ``CallError``: ``CallError/wrongType(child:expected:actual:)`` when the actor shows nothing,
    ///   ``CallError/timeout(child:after:)`` when it does not answer in time, ``CallError/noProcess(child:)`` when it has ended
    ///   or is a supervisor, which shows itself in ``Supervisor/tree()``. `CancellationError`.
    public func stateReport(timeout: Duration = .seconds(1)) async throws -> StateReport {
        guard let child = process.child else { throw CallError.noProcess(child: "\(self)") }
        guard let actor = child.actor else { throw CallError.restarting(child: child.path) }
        guard let reporting = actor as? any StateReporting else {
            throw CallError.wrongType(child: child.path, expected: "StateReporting", actual: "\(type(of: actor))")
        }
        return try await Pid.ask(reporting, child, timeout)
    }

    private static func ask<A: StateReporting>(
        _: A,
        _ child: ChildProcess,
        _ timeout: Duration
    ) async throws -> StateReport {
        try await ChildReference<A>(address: child.address)
            .attempt(child, timeout: timeout, until: timeout, isLeased: true) { $0.stateReport() }
            .get()
    }
}

extension ChildReference {
    /// What the current incarnation shows of its state: see ``Pid/stateReport(timeout:)``.
    public func stateReport(timeout: Duration = .seconds(1)) async throws -> StateReport {
        try await Pid(process: address.child().process).stateReport(timeout: timeout)
    }
}

extension ChildContext {
    /// Ends this incarnation as ``ExitReason/crashed(_:)`` with this error, as if its `run()` had thrown it: for an actor without
    /// `run()`, whose methods throw to their callers, and for what a worker learns outside of its `run()`.
    ///
    /// It is fenced off at once: calls that are under way fail with ``CallError/exited(child:_:)``, later ones find the next
    /// incarnation. Its task, if it has one, is cancelled. The supervisor acts as after any crash. Does nothing when the
    /// incarnation is ending or has ended.
    public func crash(_ error: any Error) {
        child.receive(.crash(error))
    }
}
