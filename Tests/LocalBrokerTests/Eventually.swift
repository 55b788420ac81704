import Testing

/// Asks until the answer is yes, and fails the test when it is not within the deadline. For facts nobody announces.
func eventually(
    _ fact: Comment,
    within deadline: Duration = .seconds(60),
    sourceLocation: SourceLocation = #_sourceLocation,
    _ isTrue: () async throws -> Bool
) async throws {
    let end = ContinuousClock.now + deadline
    while try await !isTrue() {
        guard ContinuousClock.now < end else {
            Issue.record(fact, sourceLocation: sourceLocation)
            return
        }
        try await Task.sleep(for: .milliseconds(10))
    }
}
