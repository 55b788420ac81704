//! Processes by key, timers, a periodic worker, crashes, and state reports.

import Supervision

// snippet.keyed
actor Tenant {
    private let name: String
    private var balance = 0

    init(_ name: String) { self.name = name }

    func deposit(_ amount: Int) -> Int {
        balance += amount
        return balance
    }
}

let tenants = KeyedSupervisor<String, Tenant>(
    "tenants",
    limit: .leastRecentlyUsed(10_000),
    idleTimeout: .seconds(600)
) { key, _ in
    Tenant(key)
}
// snippet.end

// snippet.crash
actor Feed {
    private let context: ChildContext

    init(_ context: ChildContext) { self.context = context }

    /// Called by a driver that knows nothing of supervision.
    nonisolated func connectionLost(_ error: any Error) {
        context.crash(error)
    }
}
// snippet.end

// snippet.timers
actor Session {
    private let context: ChildContext
    private var expiry: SupervisionTimer?

    init(_ context: ChildContext) { self.context = context }

    func touch() {
        expiry?.cancel()
        expiry = context.schedule(after: .seconds(1800)) { [weak self] in await self?.expire() }
    }

    private func expire() {
        context.pid.exit(.shutdown())
    }
}
// snippet.end

// snippet.report
extension Session: StateReporting {
    func stateReport() -> StateReport {
        StateReport(expiry == nil ? "new" : "in use", ["path": context.path])
    }
}
// snippet.end

@Sendable
func refreshRates() async throws {}

// snippet.periodic
let supervisor = Supervisor("app") {
    tenants
    Child("feed") { context in Feed(context) }
    Child("session") { context in Session(context) }
    Child("rates") { context in
        PeriodicWorker(context, every: .seconds(30), jitter: 0.1, backoff: Backoff()) { _ in
            try await refreshRates()
        }
    }
}
// snippet.end
try await supervisor.start()

// snippet.call
let balance = try await tenants["ada"].call { $0.deposit(10) }
print(balance, tenants["ada"].path, tenants.keys)
// snippet.end

// snippet.manual
let rates = try supervisor.child("rates", as: PeriodicWorker.self)
try await rates.call { try await $0.runNow() }
// snippet.end

// snippet.ask
let session = try supervisor.child("session", as: Session.self)
try await session.call { $0.touch() }
print(try await session.stateReport(timeout: .seconds(1)))
// snippet.end
await supervisor.stop()
