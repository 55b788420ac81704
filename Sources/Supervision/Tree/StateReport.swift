/// An actor that shows its state to operators: OTP's `sys:get_state/2`.
///
/// Nothing is shown by default: only an actor that conforms shows anything, and only what it chooses to. Only ``Pid/stateReport(timeout:)``
/// and the observer's process page ask for it. The method runs on the actor, between two of its calls, so it should be quick. Show no
/// secrets and no message contents: reports end up in tools and tickets.
///
///     extension Session: StateReporting {
///         func stateReport() -> StateReport { StateReport("idle", ["user": user, "messages": "\(count)"]) }
///     }
public protocol StateReporting: Actor {
    /// The state that the actor shows.
    func stateReport() -> StateReport
}

/// The state that an actor shows.
public struct StateReport: Sendable, Hashable {
    /// One value of the report.
    public struct Field: Sendable, Hashable {
        /// The name of the value.
        public var name: String
        /// The value as text.
        public var value: String

        /// Creates a field.
        public init(name: String, value: String) {
            self.name = name
            self.value = value
        }
    }

    /// A short summary of the state.
    public var summary: String
    /// The details, in display order.
    public var fields: [Field]

    /// Creates a report.
    public init(_ summary: String, _ fields: KeyValuePairs<String, String> = [:]) {
        self.summary = summary
        self.fields = fields.map { Field(name: $0.key, value: $0.value) }
    }
}

extension StateReport: CustomStringConvertible {
    /// The summary, followed by one line per field.
    public var description: String {
        ([summary] + fields.map { "  \($0.name): \($0.value)" }).joined(separator: "\n")
    }
}

extension Pid {
    /// The state that the process shows, if its actor is ``StateReporting``.
    ///
    /// The report is made on the actor, like a call, so it arrives when the actor is free. It does not count as a use of a process under a
    /// ``KeyedSupervisor``.
    ///
    /// - Parameter timeout: The time limit.
    /// - Throws: ``CallError``: ``CallError/wrongType(child:expected:actual:)`` when the actor shows nothing,
    ///   ``CallError/timeout(child:after:)`` when it does not answer in time, ``CallError/noProcess(child:)`` when it has ended or is a
    ///   supervisor (see ``Supervisor/tree()``). `CancellationError`.
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
    /// The state that the current incarnation shows: see ``Pid/stateReport(timeout:)``.
    public func stateReport(timeout: Duration = .seconds(1)) async throws -> StateReport {
        try await Pid(process: address.child().process).stateReport(timeout: timeout)
    }
}

extension ChildContext {
    /// Crashes this incarnation (``ExitReason/crashed(_:)``) with this error, as if its `run()` had thrown it: for an actor without
    /// `run()`, whose methods throw to their callers, and for failures that a worker detects outside its `run()`.
    ///
    /// The incarnation is fenced off immediately: calls that are under way fail with ``CallError/exited(child:_:)``, later ones find the
    /// next incarnation. Its task, if it has one, is cancelled. The supervisor acts as after any crash. Does nothing when the incarnation
    /// is ending or has ended.
    public func crash(_ error: any Error) {
        child.receive(.crash(error))
    }
}
