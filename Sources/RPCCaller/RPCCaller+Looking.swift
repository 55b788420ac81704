import AMQPPool
import ConcurrencyPrimitives
import RPCWire
import Synchronization

/// A snapshot of a caller for inspection, without contents of calls.
package struct RPCCallerLook: Sendable {
    package var service: String
    package var state: RPCCallerState
    package var replyQueue: String?
    /// The number of channels that consume the reply queue.
    package var replyConsumers: Int
    package var maximumCallsInFlight: Int
    package var waiting: Int
    package var submitted: Int
    package var counts: RPCCallerCounts
    /// The oldest waiting calls.
    package var oldest: [CallInFlight]
    /// Set while somebody watches.
    package var statistics: CallStatistics?
}

extension RPCCaller {
    /// The activity of its calls, counted while somebody watches.
    package var observation: CallObservation { counters.observation }

    /// Its channels and connections; `nil` while it is not running.
    package var channelRegistry: ChannelRegistry? { current.value?.registry }

    /// - Parameter limit: The maximum number of oldest calls to list.
    package func look(oldest limit: Int = 50) -> RPCCallerLook {
        var look = RPCCallerLook(
            service: service,
            state: .stopped,
            replyQueue: replyQueueName,
            replyConsumers: 0,
            maximumCallsInFlight: configuration.maximumCallsInFlight,
            waiting: 0,
            submitted: 0,
            counts: counts,
            oldest: [],
            statistics: observation.statistics
        )
        guard let table = current.value else { return look }
        look.state = table.callerState
        let now = CompactInstant.now
        table.state.withLock { state in
            look.replyConsumers = state.replyQueue.consuming.count
            look.waiting = state.pending.count - state.pending.submittedCount
            look.submitted = state.pending.submittedCount
            look.oldest = state.pending.oldest(limit, at: now) { ($0.request.destination, $0.request.procedure) }
        }
        return look
    }
}
