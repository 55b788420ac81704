internal import ConcurrencyPrimitives

extension AMQPPool {
    /// Runs the body with a channel that nobody else uses: for several dependent operations, a separate prefetch or consumer, or operations
    /// that may fail and thereby close the channel, such as a passive declaration (404).
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
    /// The channel is opened for this body, on a connection that is open and not blocked (round robin), and is always closed: when the body
    /// returns, throws, or is cancelled. Later operations on it fail. The broker redelivers what it consumed and did not acknowledge. A
    /// lost channel is not reopened within the body.
    ///
    /// It costs two round trips, one of them afterwards; publishing and declaring do not need it, see
    /// ``withChannel(timeout:isolation:_:)``.
    ///
    /// - Parameters:
    ///   - timeout: The time limit for the wait for a channel, including its opening; `nil` for
    ///     ``ConnectionConfiguration/operationTimeout``. At most ``PoolConfiguration/maximumDedicatedChannels`` bodies run concurrently;
    ///     others wait for their turn in order of arrival.
    ///   - isolation: The isolation of the body: the caller's.
    ///   - body: What to do with the channel.
    /// - Throws: What the body throws; ``AMQPError/overloaded(_:)`` when its turn did not come in time, or the errors of
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

    /// Opens a channel that frees its slot when it is closed.
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
                // The connection was lost in the meantime; the registry does not return it again.
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
