/// A condition that a test waited for and that did not become true in time.
public struct NotInTime: Error, CustomStringConvertible {
    /// The condition, the time, and where the test waited.
    public let description: String
}

/// Waits for a condition that nobody announces, such as a fact that only the broker knows: checks it every 10 ms.
///
/// - Throws: ``NotInTime`` after `timeout`, and what the condition throws.
public func eventually(
    within timeout: Duration = .seconds(60),
    _ what: String,
    isolation: isolated (any Actor)? = #isolation,
    fileID: String = #fileID,
    line: Int = #line,
    _ condition: () async throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + timeout
    while try await !condition() {
        guard ContinuousClock.now < deadline else {
            throw NotInTime(description: "not within \(timeout), at \(fileID):\(line): \(what)")
        }
        try await Task.sleep(for: .milliseconds(10))
    }
}
