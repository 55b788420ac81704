import Supervision
import SupervisionTesting
import Testing

@Suite("A registry with unique keys")
struct RegistryTests {
    private func tree() -> Supervisor {
        Supervisor("app", intensity: .init(1000, within: .seconds(1))) {
            Child("a") { _ in Counter() }
            Child("b") { _ in Counter() }
        }
    }

    @Test("the first owner wins; the second is told who that is")
    func unique() async throws {
        let supervisor = tree()
        try await supervisor.start()
        let a = try #require(try supervisor.child("a", as: Counter.self).pid)
        let b = try #require(try supervisor.child("b", as: Counter.self).pid)
        let registry = Registry<String, Int>()
        try registry.register("name", 1, for: a)
        #expect(registry.lookup("name")?.value == 1)
        #expect {
            try registry.register("name", 2, for: b)
        } throws: { error in
            guard case Registry<String, Int>.RegistrationError.alreadyRegistered(a) = error else { return false }
            return true
        }
        registry.unregister("name", for: b)
        #expect(registry.lookup("name")?.pid == a)
        registry.unregister("name", for: a)
        #expect(registry.lookup("name") == nil)
        await supervisor.stop()
    }

    @Test("a name is free before anybody learns of its owner's end")
    func releasedBeforeAnnounced() async throws {
        let supervisor = tree()
        try await supervisor.start()
        let registry = Registry<String, Int>()
        for _ in 1...100 {
            let a = try #require(try supervisor.child("a", as: Counter.self).pid)
            let b = try #require(try supervisor.child("b", as: Counter.self).pid)
            try registry.register("name", 1, for: a)
            async let reason = a.exited()
            a.kill()
            _ = await reason
            try registry.register("name", 2, for: b)
            registry.unregister("name", for: b)
            try await LiveTree(supervisor).settled()
        }
        #expect(registry.count == 0)
        await supervisor.stop()
    }

    @Test("a dead process cannot register")
    func dead() async throws {
        let supervisor = tree()
        try await supervisor.start()
        let a = try #require(try supervisor.child("a", as: Counter.self).pid)
        a.kill()
        let registry = Registry<String, Int>()
        #expect(throws: Registry<String, Int>.RegistrationError.self) { try registry.register("name", 1, for: a) }
        await supervisor.stop()
    }
}
