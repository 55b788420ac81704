import Supervision
import SupervisionTesting
import Testing

@Suite("Errors can be compared")
struct ErrorEqualityTests {
    private struct Opaque: Error, CustomStringConvertible {
        var description: String
        let table: @Sendable () -> Void = {}
    }

    private struct OtherFailure: Error, Equatable {
        var description = "test failure"
    }

    @Test("an exit reason is equal to the same one with the same error, and to no other")
    func reasons() {
        let reasons: [ExitReason] = [
            .normal, .killed, .noProcess, .shutdown(), .shutdown(cause: TestFailure("a")), .crashed(TestFailure("a")),
            .crashed(TestFailure("b")), .crashed(OtherFailure(description: "a")), .crashed(Opaque(description: "a")),
            .crashed(Opaque(description: "b")), .crashed(SupervisionError.unstoppable(child: "app/a")),
        ]
        for (index, reason) in reasons.enumerated() {
            for (other, second) in reasons.enumerated() { #expect((reason == second) == (index == other)) }
        }
        // What is not Equatable is compared by what it says.
        #expect(ExitReason.crashed(Opaque(description: "a")) == .crashed(Opaque(description: "a")))
    }

    @Test("a call and an administration fail with errors that a test can name")
    func expected() async throws {
        let supervisor = Supervisor("app") { Child("a", restart: .temporary) { _ in Counter() } }
        try await supervisor.start()
        let child = try supervisor.child("a", as: Counter.self)
        try await supervisor.reference().terminateChild("a")
        await #expect(throws: CallError.noProcess(child: "app/a")) { try await child.call { $0.value } }
        await #expect(throws: AdministrationError.notFound(child: "app/a")) {
            try await supervisor.reference().restartChild("a")
        }
        await #expect(throws: SupervisionError.alreadyStarted(supervisor: "app")) { try await supervisor.start() }
        await supervisor.stop()
        await #expect(throws: SupervisionError.failedToStart(child: "app/b", reason: .crashed(TestFailure("no")))) {
            try await Supervisor("app") { Child("b") { _ -> Counter? in throw TestFailure("no") } }.start()
        }
    }

    @Test("a result of a task can be compared where its value can")
    func results() {
        #expect(TaskResult.success(1) == .success(1))
        #expect(TaskResult<Int>.failure(.killed) != .failure(.normal))
    }
}
