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
