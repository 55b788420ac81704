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
