import RPCWire

/// What takes the place of the broker where there is none: in users' unit tests.
package protocol RPCWireReplacement: Sendable {
    /// Takes a request where it goes, and waits for the reply until the deadline; a cast's is `nil`.
    ///
    /// - Parameter queue: The queue it goes to, if it goes to one instead of to whoever takes its destination's requests.
    func send(
        _ message: RequestMessage,
        queue: String?,
        before deadline: ContinuousClock.Instant
    ) async throws(RPCError) -> ReplyMessage?
}
