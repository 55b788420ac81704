import SupervisionTesting
import Testing

@testable import Supervision

@Suite("Options that cannot be kept", .timeLimit(.minutes(5)))
struct RefusedOptionsTests {
    @Test("an inline start with a start timeout is refused at the start of the tree, and says what to do")
    func inlineStartTimeout() async {
        let supervisor = Supervisor("app") {
            Child.inline("counter", options: ChildOptions(startTimeout: .seconds(1))) { _ in Counter() }
        }
        await #expect(
            throws: SupervisionError.invalidSpecification(
                "startTimeout of 'counter' cannot be enforced: nothing can interrupt an inline start; use Child(_:start:)"
            )
        ) {
            try await supervisor.start()
        }
        #expect(supervisor.pid == nil)
    }

    @Test("a dynamic child with an inline start and a start timeout is refused, and its supervisor lives on")
    func dynamicInlineStartTimeout() async throws {
        let sessions = DynamicSupervisor("sessions")
        let supervisor = Supervisor("app") { sessions }
        try await supervisor.start()
        let reference = try supervisor.dynamicSupervisor("sessions")
        await #expect(throws: AdministrationError.self) {
            try await reference.startChild(
                Child.inline("counter", options: ChildOptions(startTimeout: .seconds(1))) { _ in Counter() }
            )
        }
        #expect(try reference.countChildren().active == 0)
        await supervisor.stop()
    }

    @Test("processes of a keyed supervisor cannot be significant")
    func significantKeys() async {
        let tenants = KeyedSupervisor<String, Counter>(
            "tenants",
            processRestart: .transient,
            processOptions: ChildOptions(significant: true)
        ) { _, _ in Counter() }
        await #expect(
            throws: SupervisionError.invalidSpecification(
                "keyed supervisor 'tenants': its processes cannot be significant, since it never shuts down automatically"
            )
        ) {
            try await tenants.start()
        }
    }

    @Test("exited() answers noProcess for a process that never was, and never for one that lives or has ended")
    func exited() async throws {
        let supervisor = Supervisor("app") { Child("a") { _ in Counter() } }
        try await supervisor.start()
        let pid = try #require(try supervisor.child("a", as: Counter.self).pid)
        // Cancelled before it waits, and while it waits: both times the process lives.
        for isEarly in [true, false] {
            let waiting = Task {
                if isEarly { withUnsafeCurrentTask { $0?.cancel() } }
                return await pid.exited()
            }
            waiting.cancel()
            #expect(await waiting.value == nil)
            #expect(pid.isAlive)
        }
        pid.kill()
        #expect(await pid.exited() == .killed)
        #expect(await pid.exited() == .killed)
        await supervisor.stop()
    }
}
