import Supervision
import SupervisionTesting
import Testing

@Suite("A registry with duplicate keys")
struct DuplicateRegistryTests {
    @Test("entries go with their process, before its end is announced; dispatch reaches the others")
    func entries() async throws {
        let supervisor = Supervisor("app") {
            Child("a", restart: .temporary) { _ in Counter() }
            Child("b", restart: .temporary) { _ in Counter() }
        }
        try await supervisor.start()
        let a = try #require(try supervisor.child("a", as: Counter.self).pid)
        let b = try #require(try supervisor.child("b", as: Counter.self).pid)
        let registry = DuplicateRegistry<String, Int>()
        var changes = registry.changes().makeAsyncIterator()
        registry.register("topic", 1, for: a)
        registry.register("topic", 2, for: b)
        registry.register("topic", 3, for: a)
        registry.register("other", 4, for: a)
        #expect(registry.lookup("topic").map(\.value) == [1, 2, 3])
        registry.unregister("topic", for: a, where: { $0 == 1 })
        #expect(registry.lookup("topic").map(\.value) == [2, 3])
        a.kill()
        _ = await a.exited()
        var seen: [Int] = []
        registry.dispatch("topic") { _, value in seen.append(value) }
        #expect(seen == [2])
        #expect(registry.count == 1)
        #expect(registry.keys(of: a).isEmpty)
        #expect(registry.keys(of: b) == ["topic"])
        var released = 0
        while released < 3, let change = await changes.next() {
            if change.kind == .released { released += 1 }
        }
        await supervisor.stop()
    }

    @Test("who has ended cannot register, and leaves nothing behind if it ends meanwhile")
    func dead() async throws {
        let supervisor = Supervisor("app") { DynamicSupervisor("many") }
        try await supervisor.start()
        let many = try supervisor.dynamicSupervisor("many")
        let registry = DuplicateRegistry<String, Int>()
        for round in 0..<100 {
            let pid = try #require(
                try await many.startChild(Child("x", restart: .temporary) { _ in Counter() })
            )
            async let registered: Void = registry.register("topic", round, for: pid)
            pid.kill()
            await registered
            _ = await pid.exited()
            registry.register("topic", round, for: pid)
        }
        #expect(registry.count == 0)
        #expect(registry.lookup("topic").isEmpty)
        await supervisor.stop()
    }
}
