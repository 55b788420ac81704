#if Observer
import AMQPPool
import Logging
import RPCCaller
import RPCReceiver
import ServiceLifecycle
import Supervision
import Testing

@testable import SupervisionObserver

/// An observer that is served on a free port while a test looks at it.
struct Served: Sendable {
    static let token = "0123456789abcdef"

    actor Plain {}

    actor Worker: Supervision.Worker, StateReporting {
        func run() async throws { try await Task.sleep(for: .seconds(3600)) }
        func stateReport() -> StateReport { StateReport("fine") }
    }

    let observer: Observer
    let supervisor: Supervisor
    let client: ObserverClient
    let url: String

    static func tree() -> Supervisor {
        Supervisor("app", intensity: .init(1000, within: .seconds(5)), logger: quiet) {
            Supervisor("inner", intensity: .init(1000, within: .seconds(5))) {
                Child("worker") { _ in Worker() }
                Child("plain") { _ in Plain() }
            }
            DynamicSupervisor("sessions", intensity: .init(1000, within: .seconds(5)))
        }
    }

    static let quiet = Logger(label: "observer.tests") { _ in SwiftLogNoOpLogHandler() }

    static func run(
        _ supervisor: Supervisor = tree(),
        permission: ObserverPermission = .reading,
        callers: [RPCCaller] = [],
        receivers: [RPCReceiver] = [],
        pools: [AMQPPool] = [],
        mayPlay: Bool = false,
        maximumViewers: Int = 32,
        statisticsGrace: Duration = .zero,
        _ body: (Served) async throws -> Void
    ) async throws {
        try await supervisor.start()
        var configuration = ObserverConfiguration()
        configuration.port = 0
        configuration.permission = permission
        configuration.maximumViewers = maximumViewers
        configuration.statisticsGrace = statisticsGrace
        let observer = Observer(
            trees: [supervisor],
            callers: callers,
            receivers: receivers,
            pools: pools,
            killMatrix: mayPlay ? [supervisor] : [],
            configuration: configuration,
            logger: quiet
        )
        let running = Task { try await observer.run() }
        do {
            let url = try #require(await observer.url())
            let client = try ObserverClient(url: url)
            try await body(Served(observer: observer, supervisor: supervisor, client: client, url: url))
        } catch {
            running.cancel()
            _ = await running.result
            await supervisor.stop()
            throw error
        }
        running.cancel()
        _ = await running.result
        await supervisor.stop()
    }

    /// What has happened, asked for until it is as expected.
    func events(_ isEnough: ([EventDocument]) -> Bool) async throws -> [EventDocument] {
        let deadline = ContinuousClock.now + .seconds(60)
        while true {
            let page: EventPage = try await client.get("api/events?limit=1000")
            if isEnough(page.events) || ContinuousClock.now > deadline { return page.events }
            try await Task.sleep(for: .milliseconds(10))
        }
    }
}
#endif
