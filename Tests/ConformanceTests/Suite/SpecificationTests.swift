import Testing

@testable import Supervision

@Suite("supervisor_SUITE: specifications and flags")
struct SpecificationTests {
    @Test("sup_start_map: a child is permanent and has five seconds by default, a supervisor has all the time")
    func defaults() {
        let child = Child("a") { _ in Idler() }
        #expect(child.specification.restart == .permanent)
        #expect(child.specification.shutdown == .timeout(.seconds(5)))
        #expect(child.specification.isSignificant == false)
        let supervisor = Supervisor("s") {}
        #expect(supervisor.specification.restart == .permanent)
        #expect(supervisor.specification.shutdown == .infinity)
        guard case .ordered(.oneForOne) = supervisor.specification.kind else {
            Issue.record("\(supervisor.specification.kind)")
            return
        }
        #expect(supervisor.specification.autoShutdown == .never)
    }

    @Test("sup_start_map_faulty_specs: what is missing or wrong is named in the error", arguments: ["", "a/b"])
    func faulty(id: String) async throws {
        let supervisor = Supervisor("root") { Child(id) { _ in Idler() } }
        await #expect {
            try await supervisor.start()
        } throws: { error in
            guard case SupervisionError.invalidSpecification(let text) = error else { return false }
            return text.hasPrefix("a child's id must not")
        }
    }

    @Test("child_specs: every combination of valid settings is accepted, a second child with the same id is not")
    func combinations() async throws {
        for restart in [Restart.permanent, .transient, .temporary] {
            for shutdown in [Shutdown.brutalKill, .infinity, .timeout(.zero), .timeout(.seconds(1))] {
                let supervisor = Supervisor("root") {
                    Child("a", restart: restart, options: ChildOptions(shutdown: shutdown)) { _ in Idler() }
                    Supervisor("b", restart: restart, shutdown: shutdown) {}
                }
                #expect(supervisor.specification.problem == nil)
            }
        }
        let twice = Supervisor("root") {
            Child("a") { _ in Idler() }
            Supervisor("a") {}
        }
        #expect(twice.specification.problem?.contains("two children with the id 'a'") == true)
    }

    @Test("child_specs_map: a significant child must be able to end for good, and its end must mean something")
    func significance() async throws {
        for autoShutdown in [AutoShutdown.never, .anySignificant, .allSignificant] {
            for restart in [Restart.permanent, .transient, .temporary] {
                for significant in [false, true] {
                    let isValid = !significant || (restart != .permanent && autoShutdown != .never)
                    let supervisor = Supervisor("root", autoShutdown: autoShutdown) {
                        Child("a", restart: restart, options: ChildOptions(significant: significant)) { _ in Idler() }
                    }
                    #expect((supervisor.specification.problem == nil) == isValid)
                    let empty = Supervisor("root", autoShutdown: autoShutdown) {}
                    try await empty.start()
                    let added = Child("a", restart: restart, options: ChildOptions(significant: significant)) { _ in
                        Idler()
                    }
                    do {
                        try await empty.reference().startChild(added)
                        #expect(isValid)
                    } catch AdministrationError.invalidSpecification {
                        #expect(!isValid)
                    }
                    await empty.stop()
                }
            }
        }
    }

    @Test("sup_flags: a negative intensity and a period that is not positive are refused, by name")
    func flags() {
        let intensity = Supervisor("root", intensity: .init(-1, within: .seconds(1))) {}
        #expect(intensity.specification.problem?.contains("intensity must not be negative") == true)
        for period in [Duration.zero, .seconds(-1)] {
            let supervisor = Supervisor("root", intensity: .init(1, within: period)) {}
            #expect(supervisor.specification.problem?.contains("period must be longer than zero") == true)
        }
        #expect(Supervisor("root", intensity: .init(0, within: .seconds(1))) {}.specification.problem == nil)
    }
}
