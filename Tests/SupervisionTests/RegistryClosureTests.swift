import Supervision
import Synchronization
import Testing

/// What users hand to a registry runs outside of its lock: it may use the registry.
@Suite("Closures that a registry is given", .timeLimit(.minutes(5)))
struct RegistryClosureTests {
    private func withPids(_ body: (Pid, Pid) throws -> Void) async throws {
        let supervisor = Supervisor("app") {
            Child("a") { _ in Counter() }
            Child("b") { _ in Counter() }
        }
        try await supervisor.start()
        let a = try #require(try supervisor.child("a", as: Counter.self).pid)
        let b = try #require(try supervisor.child("b", as: Counter.self).pid)
        try body(a, b)
        await supervisor.stop()
    }

    @Test("may look up, register, unregister and count in updateValue, keys(where:) and unregister(where:)")
    func useTheRegistry() async throws {
        try await withPids { a, b in
            let registry = Registry<String, Int>()
            try registry.register("x", 1, for: a)
            let value = registry.updateValue("x", for: a) { value in
                value += registry.lookup("x")?.value ?? 0
                try? registry.register("y", value, for: b)
                registry.updateValue("y", for: b) { $0 += registry.count }
            }
            #expect(value == 2)
            #expect(registry.lookup("y")?.value == 4)
            let keys = registry.keys { value in
                registry.unregister("y", for: b)
                return value > registry.count
            }
            #expect(Set(keys) == ["x", "y"])
            let groups = DuplicateRegistry<String, Int>()
            groups.register("g", 1, for: a)
            groups.register("g", 2, for: a)
            groups.unregister("g", for: a) { value in
                groups.register("h", value, for: b)
                return value == groups.lookup("g").count - 1
            }
            #expect(groups.lookup("g").map(\.value) == [2])
            #expect(groups.lookup("h").map(\.value) == [1, 2])
        }
    }

    @Test("a change of the same value inside of a change is overwritten, and neither runs again")
    func nestedUpdate() async throws {
        try await withPids { a, _ in
            let registry = Registry<String, Int>()
            try registry.register("x", 1, for: a)
            var runs = 0
            let value = registry.updateValue("x", for: a) { value in
                runs += 1
                registry.updateValue("x", for: a) { $0 = 100 }
                #expect(registry.lookup("x")?.value == 100)
                value += 1
            }
            #expect(value == 2)
            #expect(registry.lookup("x")?.value == 2)
            #expect(runs == 1)
        }
    }

    @Test("a value that is released inside of its own change is gone")
    func releasedMeanwhile() async throws {
        try await withPids { a, b in
            let registry = Registry<String, Int>()
            try registry.register("x", 1, for: a)
            let value = registry.updateValue("x", for: a) { value in
                registry.unregister("x", for: a)
                try? registry.register("x", 7, for: b)
                value = 2
            }
            #expect(value == nil)
            #expect(registry.lookup("x")?.value == 7)
        }
    }

    @Test("changes from many tasks at once are all made")
    func concurrent() async throws {
        let supervisor = Supervisor("app") { Child("a") { _ in Counter() } }
        try await supervisor.start()
        let pid = try #require(try supervisor.child("a", as: Counter.self).pid)
        let registry = Registry<String, Int>()
        try registry.register("x", 0, for: pid)
        await withTaskGroup { group in
            for _ in 1...8 {
                group.addTask {
                    for _ in 1...500 { registry.updateValue("x", for: pid) { $0 += 1 } }
                }
            }
        }
        #expect(registry.lookup("x")?.value == 4000)
        await supervisor.stop()
    }

    @Test("a change that races a release changes what is there or nothing, and brings nothing back")
    func changeAndRelease() async throws {
        let supervisor = Supervisor("app") {
            Child("a") { _ in Counter() }
            Child("b") { _ in Counter() }
        }
        try await supervisor.start()
        let a = try #require(try supervisor.child("a", as: Counter.self).pid)
        let b = try #require(try supervisor.child("b", as: Counter.self).pid)
        let registry = Registry<String, Int>()
        for _ in 1...200 {
            try registry.register("x", 0, for: a)
            await withTaskGroup(of: Void.self) { group in
                for _ in 1...3 { group.addTask { _ = registry.updateValue("x", for: a) { $0 += 1 } } }
                group.addTask {
                    registry.unregister("x", for: a)
                    try? registry.register("x", 100, for: b)
                }
            }
            #expect(registry.lookup("x")?.pid == b)
            #expect(registry.lookup("x")?.value == 100)
            registry.unregister("x", for: b)
            #expect(registry.count == 0)
        }
        await supervisor.stop()
    }

    /// A value that uses the registry when it goes away.
    private final class Parting: Sendable {
        let parting: @Sendable () -> Void
        init(_ parting: @escaping @Sendable () -> Void) { self.parting = parting }
        deinit { parting() }
    }

    @Test("the deinitializer of a value that is replaced, changed or released may use the registry")
    func deinitializers() async throws {
        try await withPids { a, _ in
            let registry = Registry<String, Parting>()
            let groups = DuplicateRegistry<String, Parting>()
            let partings = Mutex(0)
            let value = { Parting { partings.withLock { $0 += registry.count * 0 + groups.count * 0 + 1 } } }
            try registry.register("x", value(), for: a)
            try registry.register("x", value(), for: a)
            registry.updateValue("x", for: a) { $0 = value() }
            registry.unregister("x", for: a)
            groups.register("g", value(), for: a)
            groups.unregister("g", for: a)
            groups.register("g", value(), for: a)
            #expect(partings.withLock { $0 } == 4)
            a.kill()
        }
    }
}
