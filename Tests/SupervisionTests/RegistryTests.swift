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

    @Test("a name is gone with the kill, and may be taken while its owner is still being cleaned up")
    func takenOver() async throws {
        let gate = Journal()
        let supervisor = Supervisor("app", intensity: .init(1000, within: .seconds(1))) {
            Child(
                "a",
                options: ChildOptions(killTimeout: .seconds(600)),
                onKill: { (_: Counter) in await gate.wait(for: "open") }
            ) { _ in
                Counter()
            }
            Child("b") { _ in Counter() }
        }
        try await supervisor.start()
        let a = try #require(try supervisor.child("a", as: Counter.self).pid)
        let b = try #require(try supervisor.child("b", as: Counter.self).pid)
        let registry = Registry<String, Int>()
        let groups = DuplicateRegistry<String, Int>()
        try registry.register("name", 1, for: a)
        groups.register("group", 1, for: a)
        a.kill()
        #expect(registry.lookup("name") == nil)
        #expect(registry.keys(of: a).isEmpty)
        #expect(registry.count(of: a) == 0)
        #expect(registry.keys { _ in true }.isEmpty)
        #expect(registry.updateValue("name", for: a) { $0 += 1 } == nil)
        #expect(groups.keys(of: a).isEmpty)
        #expect(groups.lookup("group").isEmpty)
        try registry.register("name", 2, for: b)
        gate.write("open")
        _ = await a.exited()
        #expect(registry.lookup("name")?.pid == b)
        #expect(registry.lookup("name")?.value == 2)
        await supervisor.stop()
        #expect(registry.count == 0)
    }

    @Test("of many that want a name at once, one gets it, and all others are told who that is")
    func race() async throws {
        let supervisor = Supervisor("app") {
            for index in 0..<8 { Child("\(index)") { _ in Counter() } }
        }
        try await supervisor.start()
        let pids = try (0..<8).map { try #require(try supervisor.child("\($0)", as: Counter.self).pid) }
        let registry = Registry<Int, Int>()
        for round in 0..<100 {
            let owners = await withTaskGroup(of: Pid?.self) { group in
                for pid in pids {
                    group.addTask {
                        do throws(Registry<Int, Int>.RegistrationError) {
                            try registry.register(round, 0, for: pid)
                            return pid
                        } catch {
                            guard case .alreadyRegistered(let owner) = error else { return nil }
                            return owner
                        }
                    }
                }
                return await group.reduce(into: Set<Pid?>()) { $0.insert($1) }
            }
            #expect(owners == [registry.lookup(round)?.pid])
        }
        await supervisor.stop()
        #expect(registry.count == 0)
    }

    @Test("values are changed by the owner alone, and keys are found by value and by owner")
    func values() async throws {
        let supervisor = tree()
        try await supervisor.start()
        let a = try #require(try supervisor.child("a", as: Counter.self).pid)
        let b = try #require(try supervisor.child("b", as: Counter.self).pid)
        let registry = Registry<String, Int>()
        try registry.register("x", 1, for: a)
        try registry.register("y", 2, for: a)
        try registry.register("z", 3, for: b)
        #expect(registry.updateValue("x", for: a) { $0 += 10 } == 11)
        #expect(registry.updateValue("x", for: b) { $0 = 0 } == nil)
        #expect(registry.lookup("x")?.value == 11)
        #expect(Set(registry.keys { $0 > 2 }) == ["x", "z"])
        #expect(Set(registry.keys(of: a)) == ["x", "y"])
        #expect(registry.count == 3)
        // Registering what one has already gives it another value.
        try registry.register("x", 12, for: a)
        #expect(registry.lookup("x")?.value == 12)
        await supervisor.stop()
    }

    @Test("listeners hear of what is registered and released, also by an exit")
    func listeners() async throws {
        let supervisor = tree()
        try await supervisor.start()
        let a = try #require(try supervisor.child("a", as: Counter.self).pid)
        let registry = Registry<String, Int>()
        var changes = registry.changes().makeAsyncIterator()
        try registry.register("x", 1, for: a)
        registry.unregister("x", for: a)
        try registry.register("x", 2, for: a)
        a.kill()
        var told: [RegistryChange<String>.Kind] = []
        while told.count < 4, let change = await changes.next() {
            #expect(change.key == "x" && change.pid == a)
            told.append(change.kind)
        }
        #expect(told == [.registered, .released, .registered, .released])
        await supervisor.stop()
    }

    @Test("a worker that is started again finds its name free, however quickly")
    func nameOfRestarted() async throws {
        let registry = Registry<String, Int>()
        let supervisor = Supervisor("app", intensity: .init(1000, within: .seconds(1))) {
            Child("a") { context in
                try registry.register("name", context.incarnation, for: context.pid)
                return Counter()
            }
        }
        try await supervisor.start()
        for incarnation in 1...100 {
            try LiveTree(supervisor).end("app/a")
            try await LiveTree(supervisor).settled()
            #expect(registry.lookup("name")?.value == incarnation)
        }
        await supervisor.stop()
        #expect(registry.lookup("name") == nil)
    }

    @Test("what is registered is found by value, by owner and in numbers")
    func questions() async throws {
        let supervisor = tree()
        try await supervisor.start()
        let a = try #require(try supervisor.child("a", as: Counter.self).pid)
        let b = try #require(try supervisor.child("b", as: Counter.self).pid)
        let registry = Registry<String, Int>()
        for (index, key) in ["x", "y", "z"].enumerated() { try registry.register(key, index, for: index == 2 ? b : a) }
        #expect(registry.keys { $0 >= 1 }.sorted() == ["y", "z"])
        #expect(registry.registrations { $0.pid == a }.map(\.key).sorted() == ["x", "y"])
        #expect(registry.count { $0 == 2 } == 1)
        #expect(registry.keys(of: a).sorted() == ["x", "y"])
        #expect([registry.count(of: a), registry.count(of: b), registry.count] == [2, 1, 3])
        registry.unregister("x", for: a)
        try registry.register("y", 5, for: a)
        #expect(registry.keys(of: a) == ["y"])
        a.kill()
        _ = await a.exited()
        #expect(registry.keys(of: a).isEmpty)
        #expect(registry.count == 1)
        await supervisor.stop()
    }

    @Test("closures may use the registry that calls them")
    func reentrant() async throws {
        let supervisor = tree()
        try await supervisor.start()
        let a = try #require(try supervisor.child("a", as: Counter.self).pid)
        let registry = Registry<String, Int>()
        try registry.register("x", 1, for: a)
        #expect(registry.keys { _ in registry.lookup("x") != nil } == ["x"])
        let groups = DuplicateRegistry<String, Int>()
        for value in 1...4 { groups.register("g", value, for: a) }
        groups.unregister("g", for: a) { $0 % 2 == 0 && groups.count == 4 }
        #expect(groups.values("g", of: a) == [1, 3])
        #expect(groups.count("g") { $0 > 1 } == 1)
        #expect(groups.keys { $0 == 3 } == ["g"])
        #expect(groups.registrations().map(\.value) == [1, 3])
        await supervisor.stop()
    }

    @Test("a reference by name reaches whoever has the name at each call")
    func via() async throws {
        let registry = Registry<String, Int>()
        let supervisor = Supervisor("app", intensity: .init(100, within: .seconds(1))) {
            Child("a") { context in
                try registry.register("name", 1, for: context.pid)
                return Counter()
            }
            Child("b") { _ in Counter() }
        }
        try await supervisor.start()
        let named = registry.reference(name: "name", as: Counter.self)
        #expect(try await named.call { $0.increment() } == 1)
        let a = try supervisor.child("a", as: Counter.self)
        #expect(named.pid == a.pid)
        a.pid?.kill()
        try await LiveTree(supervisor).settled()
        #expect(named.pid == a.pid)
        #expect(try await named.call { $0.increment() } == 1)
        let pid = try #require(a.pid)
        registry.unregister("name", for: pid)
        await #expect {
            try await named.call { $0.increment() }
        } throws: {
            if case CallError.noProcess("name") = $0 { true } else { false }
        }
        let b = try #require(try supervisor.child("b", as: Counter.self).pid)
        try registry.register("name", 2, for: b)
        #expect(named.pid == b)
        await supervisor.stop()
    }
}
