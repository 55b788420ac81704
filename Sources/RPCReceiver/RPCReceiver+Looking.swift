import AMQPPool
internal import ConcurrencyPrimitives
import RPCWire

/// A snapshot of a receiver for inspection, without contents of requests.
package struct RPCReceiverLook: Sendable {
    package var service: String
    package var queue: String
    package var state: RPCReceiverState
    package var concurrency: Int
    package var prefetch: Int
    package var running: Int
    package var waiting: Int
    package var zombieHandlers: Int
    package var counts: RPCReceiverCounts
    /// The oldest requests that are accepted and unanswered.
    package var oldest: [CallInFlight]
    /// Set while somebody watches.
    package var statistics: CallStatistics?
}

extension RPCReceiver {
    /// The activity of its handlers, counted while somebody watches.
    package var observation: CallObservation { counters.observation }

    /// Its channels and connections; `nil` while it is not running.
    package var channelRegistry: ChannelRegistry? { current.value?.registry }

    /// - Parameter limit: The maximum number of oldest requests to list.
    package func look(oldest limit: Int = 50) -> RPCReceiverLook {
        var look = RPCReceiverLook(
            service: service,
            queue: queueName,
            state: .stopped,
            concurrency: configuration.concurrency,
            prefetch: configuration.prefetch,
            running: 0,
            waiting: 0,
            zombieHandlers: zombieHandlers,
            counts: counts,
            oldest: [],
            statistics: observation.statistics
        )
        guard let parts = current.value else { return look }
        look.state = parts.state
        (look.oldest, look.running, look.waiting) = parts.runner.look(oldest: limit)
        return look
    }
}
