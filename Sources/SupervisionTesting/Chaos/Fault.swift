import ConcurrencyPrimitives

extension Chaos {
    /// An event around a tree instead of in one of its processes: the network fails, a database restarts, a disk is full.
    ///
    ///     let chaos = Chaos(
    ///         invariants: invariants,
    ///         faults: [Chaos.Fault("database-restarted") { _ in try await database.restart() }]
    ///     ) {
    ///         makeTree()
    ///     }
    ///     try await chaos.eachFault()
    ///     try await chaos.storm(kills: 200)
    ///     try await chaos.replay("kill app/cache & outside database-restarted")
    ///
    /// It lasts from the call of its closure until that returns, so a fault that lasts for a while (a slow network) undoes itself at the
    /// end. The kills of the same step happen in the meantime. The effects are judged as after a kill: when the fault is over and the tree
    /// has settled, the invariants are checked.
    ///
    /// The product `AMQPTesting` has the faults of RabbitMQ.
    public struct Fault: Sendable {
        /// Its name in a ``Chaos/Scenario``, for example `network-cut`. It must not contain `;` or `&`.
        public var name: String
        /// The relative probability with which storms choose it. Default 1.
        public var weight: Double
        package let inflict: @Sendable (LiveTree) async throws -> Void

        /// - Parameters:
        ///   - name: Its name in a ``Chaos/Scenario``: without `;` and `&`, and with single spaces only.
        ///   - weight: The relative probability with which storms choose it.
        ///   - inflict: Causes the fault, and undoes it if necessary. An error that it throws is a ``Chaos/Finding``.
        public init(_ name: String, weight: Double = 1, _ inflict: @escaping @Sendable (LiveTree) async throws -> Void)
        {
            self.name = name
            self.weight = weight
            self.inflict = inflict
        }

        /// The same fault under another name, for example to tell two networks apart.
        public func named(_ name: String) -> Chaos.Fault {
            var fault = self
            fault.name = name
            return fault
        }

        /// The same fault with another ``weight``.
        public func weighted(_ weight: Double) -> Chaos.Fault {
            var fault = self
            fault.weight = weight
            return fault
        }
    }
}

/// A fault in progress.
struct FaultUnderWay: Sendable {
    let name: String
    private let over: Latch
    private let task: Task<Void, any Error>

    init(_ fault: Chaos.Fault, _ tree: LiveTree) {
        let over = Latch()
        name = fault.name
        self.over = over
        task = Task {
            defer { over.open() }
            try await fault.inflict(tree)
        }
    }

    /// Its finding, when it is over or should be.
    func finding(within timeout: Duration) async -> Chaos.Finding? {
        guard await over.isOpen(within: timeout) else {
            task.cancel()
            return .faultFailed(name, Chaos.Invariant.Violation("it is not over after \(timeout)"))
        }
        switch await task.result {
        case .success: return nil
        case .failure(let error): return .faultFailed(name, error)
        }
    }
}
