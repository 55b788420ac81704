internal import ConcurrencyPrimitives

extension AMQPPool {
    /// Runs the body with a channel that nobody else uses: for a transaction of several operations, a prefetch or consumer of
    /// one's own, or what may fail and thereby close the channel, such as a passive declare of what may not exist (404).
    ///
    ///     let exists = try await pool.withDedicatedChannel { channel in
    ///         do {
    ///             try await channel.declareQueue("orders", passive: true)
    ///             return true
    ///         } catch AMQPError.channelClosedByBroker(code: 404, _) {
    ///             return false
    ///         }
    ///     }
    ///
    /// The channel is opened for this body, on a connection that is open and not blocked, each connection in its turn, and
    /// closed on every path: when the body returns, throws, or is cancelled. What the body does with it afterwards fails. What it
    /// consumed and did not acknowledge, the broker delivers again. A channel that is lost does not come back within the body.
    ///
    /// It costs two round trips, one of them afterwards; publishing and declaring need none of it, see ``withChannel(timeout:isolation:_:)``.
    ///
    /// - Parameters:
    ///   - timeout: how long to wait for a channel, all included; nil is ``ConnectionConfiguration/operationTimeout``. At most
    ///     ``PoolConfiguration/maximumDedicatedChannels`` bodies run at once, the others wait for their turn, first come, first
    ///     served.
    ///   - isolation: where the body runs: where this is called.
    ///   - body: what to do with the channel.
    /// - Throws: what the body throws; ``AMQPError/overloaded(_:)`` when it was never its turn, or as
    ///   ``waitUntilReady(timeout:)``, each inside ``AMQPError/notSent(_:)``.
    @discardableResult
    public func withDedicatedChannel<Result: Sendable>(
        timeout: Duration? = nil,
        isolation: isolated (any Actor)? = #isolation,
        _ body: (AMQPChannel) async throws -> Result
    ) async throws -> Result {
        let channel = try await dedicatedChannel(before: .now + (timeout ?? operationTimeout).bounded)
        do {
            let result = try await body(channel)
            await channel.close()
            return result
        } catch {
            await channel.close()
            throw error
        }
    }

    /// A channel that gives its place back when it is over.
    private func dedicatedChannel(before deadline: ContinuousClock.Instant) async throws(AMQPError) -> AMQPChannel {
        switch await dedicatedChannels.acquire(before: deadline) {
        case .admitted: break
        case .cancelled: throw .notSent(.cancelled(operation: "waiting for a channel"))
        case .deadline: throw .notSent(.overloaded("dedicated channels"))
        }
        do {
            let channel = try await openDedicatedChannel(before: deadline)
            channel.onClosed { [dedicatedChannels] _ in dedicatedChannels.release() }
            return channel
        } catch {
            dedicatedChannels.release()
            throw error
        }
    }

    private func openDedicatedChannel(before deadline: ContinuousClock.Instant) async throws(AMQPError) -> AMQPChannel {
        while true {
            let connection = try await nextConnection(before: deadline)
            do throws(AMQPError) {
                return try await connection.openChannel(timeout: ContinuousClock.now.duration(to: deadline))
            } catch {
                // The connection was lost meanwhile, and is not found again.
                guard error.cause.isEndOfChannel, ContinuousClock.now < deadline else { throw error.asNotSent }
            }
        }
    }
}

extension AMQPError {
    var asNotSent: AMQPError {
        if case .notSent = self { self } else { .notSent(self) }
    }
}
