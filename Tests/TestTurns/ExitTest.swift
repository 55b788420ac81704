package import Testing

/// Lets one exit test run at a time.
///
/// While the process of an exit test (`#expect(processExitsWith:)`) is running, Swift Testing blocks a thread of the pool, which has as
/// many as there are cores. As many exit tests at once stop every other test until one of them has ended, and deadlines pass.
package struct ExitTest: TestTrait, TestScoping {
    private static let turnstile = Turnstile(places: 1)

    package func provideScope(
        for test: Test,
        testCase: Test.Case?,
        performing function: @Sendable () async throws -> Void
    ) async throws {
        await Self.turnstile.enter()
        defer { Self.turnstile.leave() }
        try await function()
    }
}

extension Trait where Self == ExitTest {
    /// Belongs on each test that expects a process to exit.
    package static var exitTest: Self { ExitTest() }
}
