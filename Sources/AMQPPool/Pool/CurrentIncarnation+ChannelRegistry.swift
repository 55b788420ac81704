internal import ConcurrencyPrimitives
package import Supervision

/// The registry of the pool's living incarnation.
extension Current where Value == ChannelRegistry, Source == Pid, Reason == ExitReason {
    var poolState: PoolState { value?.poolState ?? .stopped }

    /// The registry, waiting until the deadline while the pool starts or restarts.
    ///
    /// - Throws: ``AMQPError/poolNotRunning`` at the deadline, or immediately when the pool was stopped; ``AMQPError/poolEnded(why:)``
    ///   immediately when it failed to start or gave up; ``AMQPError/cancelled(operation:)``. Each inside ``AMQPError/notSent(_:)``.
    func registry(before deadline: ContinuousClock.Instant) async throws(AMQPError) -> ChannelRegistry {
        do throws(Absence) {
            return try await value(before: deadline)
        } catch {
            switch error {
            case .ended(let reason):
                // A caller that retries immediately must not keep the thread from the pool's start.
                await Task.yield()
                throw .notSent(.ended(reason))
            case .deadline: throw .notSent(.poolNotRunning)
            case .cancelled: throw .notSent(.cancelled(operation: "waiting for a channel"))
            case .overloaded(let limit):
                throw .notSent(.overloaded("\(limit) tasks already wait for the pool to start"))
            }
        }
    }

    /// Waits for something in a registry. When the registry ends in the meantime, the wait continues in the next one.
    ///
    /// - Throws: The errors of ``registry(before:)``, and what `find` throws.
    func wait<Found>(
        before deadline: ContinuousClock.Instant,
        for find: (ChannelRegistry) async throws(AMQPError) -> Found
    ) async throws(AMQPError) -> Found {
        while true {
            let registry = try await registry(before: deadline)
            do throws(AMQPError) {
                return try await find(registry)
            } catch {
                guard registry.isEnded, case .notSent(.poolNotRunning) = error else { throw error }
            }
        }
    }
}

extension AMQPError {
    /// The error for callers that need a tree which has ended for this reason.
    package static func ended(_ reason: ExitReason) -> AMQPError {
        switch reason {
        case .normal, .shutdown(nil): .poolNotRunning
        case .shutdown, .killed, .crashed, .noProcess: .poolEnded(why: "\(reason)")
        }
    }
}
