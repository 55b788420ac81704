package import Testing

/// Runs synchronous tests that compute for seconds, one at a time, on a thread of their own.
///
/// On a thread of the pool, which has as many as there are cores, such a test stops others: two of them stop every test, and deadlines pass
/// that have nothing to do with the code.
package struct BesidesThePool: SuiteTrait, TestTrait, TestScoping {
    private static let thread = ThreadExecutor()

    /// It is for each test of a suite.
    package var isRecursive: Bool { true }

    package func provideScope(
        for test: Test,
        testCase: Test.Case?,
        performing function: @Sendable () async throws -> Void
    ) async throws {
        try await withTaskExecutorPreference(Self.thread) { try await function() }
    }
}

extension Trait where Self == BesidesThePool {
    /// Belongs on tests that compute for long without being suspended, such as those that read all sources.
    package static var besidesThePool: Self { BesidesThePool() }
}
