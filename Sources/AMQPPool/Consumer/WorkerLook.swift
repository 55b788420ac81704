/// A worker of queues as it is now, for those who look at it: nothing of what its messages carry.
package struct WorkerLook: Sendable {
    /// One of its queues.
    package struct Queue: Sendable {
        package var name: String
        /// Where what could not be handled is kept.
        package var failed: String
        package var isConsuming: Bool
        /// Why it does not consume.
        package var interruption: String?

        package init(name: String, failed: String, isConsuming: Bool, interruption: String?) {
            self.name = name
            self.failed = failed
            self.isConsuming = isConsuming
            self.interruption = interruption
        }
    }

    package var queues: [Queue] = []
    package var deliveries = DeliveryLook()
    package var prefetch = 0
    package var counts = WorkerCounts()

    package init() {}
}

/// How many messages became what, in one incarnation of a worker.
package struct WorkerCounts: Sendable, Equatable {
    package var handled = 0
    /// Attempts that failed: what became of the message is counted below.
    package var failed = 0
    package var retried = 0
    package var parked = 0
    package var rejected = 0
    package var discarded = 0
    /// Recognised as handled before.
    package var repeated = 0
    /// Of a type that nobody handles.
    package var unhandled = 0

    package init() {}
}

/// What a consumer's handlers do now.
package struct DeliveryLook: Sendable {
    package var isPaused = false
    /// How long the kill switch lets nothing begin.
    package var tripped: Duration?
    package var concurrency = 0
    package var rate: DeliveryRate?
    package var running = 0
    package var unsettled = 0
    package var zombies = 0

    package init() {}
}

/// An actor that works on queues, and can be looked at and paused by somebody who knows nothing else of it.
package protocol ObservableWorker: Actor {
    nonisolated func look() -> WorkerLook
    /// What the broker says of a queue.
    nonisolated func status(ofQueue queue: String) async -> QueueStatus?
    func pause() async
    func resume() async
}
