import Supervision
import SupervisionTesting
import Testing

@Suite("A partition supervisor")
struct PartitionSupervisorTests {
    @Test("the same key goes to the same partition")
    func partitions() async throws {
        let counters = PartitionSupervisor<Counter>("counters", partitions: 4) { id, _ in Child(id) { _ in Counter() } }
        try await counters.supervisor.start()
        for key in 0..<100 { _ = try await counters.partition(for: key).call { $0.increment() } }
        #expect(counters.partition(for: 7).pid == counters.partition(for: 7).pid)
        var sum = 0
        for index in 0..<4 {
            sum += try await counters.supervisor.child("\(index)", as: Counter.self).call { $0.value }
        }
        #expect(sum == 100)
        await counters.supervisor.stop()
    }

    @Test("within a tree it is found below its supervisor; a partition that fails leaves the others alone")
    func nested() async throws {
        let counters = PartitionSupervisor<Counter>("counters", partitions: 4) { id, _ in Child(id) { _ in Counter() } }
        let app = Supervisor("app") {
            counters
            Child("user") { context in PartitionUser(counters: counters, supervisor: context.supervisor) }
        }
        try await app.start()
        let user = try app.child("user", as: PartitionUser.self)
        for _ in 0..<10 { _ = try await user.call { try await $0.count("key") } }
        #expect(try await user.call { try await $0.count("key") } == 11)
        let before = try (0..<4).map { try app.child("counters", "\($0)", as: Counter.self).pid }
        let index = try #require(before.firstIndex(of: try await user.call { $0.partition(of: "key") }))
        before[index]?.kill()
        try await LiveTree(app).settled()
        #expect(try await user.call { try await $0.count("key") } == 1)
        for other in 0..<4 where other != index {
            #expect(try app.child("counters", "\(other)", as: Counter.self).pid == before[other])
        }
        await app.stop()
    }

    @Test("there is at least one partition")
    func atLeastOne() async throws {
        let counters = PartitionSupervisor<Counter>("counters", partitions: 0) { id, _ in Child(id) { _ in Counter() } }
        #expect(counters.partitions == 1)
        try await counters.supervisor.start()
        #expect(try await counters.partition(for: "any").call { $0.increment() } == 1)
        await counters.supervisor.stop()
    }
}

/// Reaches the partitions from within the tree.
private actor PartitionUser {
    let counters: PartitionSupervisor<Counter>
    let supervisor: SupervisorReference

    init(counters: PartitionSupervisor<Counter>, supervisor: SupervisorReference) {
        self.counters = counters
        self.supervisor = supervisor
    }

    func count(_ key: String) async throws -> Int {
        try await counters.partition(for: key, under: supervisor).call { $0.increment() }
    }

    func partition(of key: String) -> Pid? { counters.partition(for: key, under: supervisor).pid }
}
