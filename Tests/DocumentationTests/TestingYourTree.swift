import Supervision
import SupervisionTesting
import Testing

private actor Store {
    private var values: [String: Int] = [:]
    func set(_ key: String, _ value: Int) { values[key] = value }
    func get(_ key: String) -> Int? { values[key] }
}

private func makeTree(clock: any SupervisionClock = SystemSupervisionClock.shared) -> Supervisor {
    Supervisor("app", intensity: .init(1000, within: .seconds(1)), clock: clock) {
        Child("store") { _ in Store() }
        Child("index", options: ChildOptions(backoff: Backoff(minimum: .seconds(10), maximum: .seconds(10), jitter: 0)))
        { _ in Store() }
    }
}

/// The samples of the article on testing, as the tests that they are.
@Suite("The article on testing a tree")
struct TestingYourTree {
    // snippet.kill
    @Test("the store answers again after each way to end it", arguments: [LiveTree.Ending.kill, .crash(), .shutdown])
    func storeReturns(ending: LiveTree.Ending) async throws {
        let supervisor = makeTree()
        try await supervisor.start()
        let tree = LiveTree(supervisor)
        let store = try supervisor.child("store", as: Store.self)
        try await store.call { $0.set("answer", 42) }

        let old = try tree.end("app/store", by: ending)
        try await tree.settled()

        #expect(store.pid != old)
        #expect(try await store.call { $0.get("answer") } == nil)
        await supervisor.stop()
    }
    // snippet.end

    // snippet.clock
    @Test("the index is back after its backoff of ten seconds")
    func backoff() async throws {
        let clock = ManualClock()
        let supervisor = makeTree(clock: clock)
        try await supervisor.start()
        let tree = LiveTree(supervisor)
        let index = try supervisor.child("index", as: Store.self)
        try await tree.settled()

        try tree.end("app/index")
        #expect(index.pid == nil)

        clock.advance(by: .seconds(10))
        try await tree.settled()
        #expect(index.pid != nil)
        await supervisor.stop()
    }
    // snippet.end
}
