import RPCWire

/// A replacement of the broker for users' unit tests.
package protocol RPCWireReplacement: Sendable {
    /// Delivers a request, and waits for the reply until the deadline; `nil` for a cast.
    ///
    /// - Parameter queue: The queue to deliver to, instead of routing by the destination.
    func send(
        _ message: RequestMessage,
        queue: String?,
        before deadline: ContinuousClock.Instant
    ) async throws(RPCError) -> ReplyMessage?
}
