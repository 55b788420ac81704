/// A snapshot of a worker for inspection, without contents of messages.
package struct WorkerLook: Sendable {
    /// One of the worker's queues.
    package struct Queue: Sendable {
        package var name: String
        /// The queue for messages that could not be handled.
        package var failed: String
        package var isConsuming: Bool
        /// Why it is not consuming.
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

/// The numbers of messages by outcome, in one incarnation of a worker.
package struct WorkerCounts: Sendable, Equatable {
    package var handled = 0
    /// Failed attempts; the outcomes of their messages are counted below.
    package var failed = 0
    package var retried = 0
    package var parked = 0
    package var rejected = 0
    package var discarded = 0
    /// Recognised as already handled.
    package var repeated = 0
    /// Of a type without a handler.
    package var unhandled = 0

    package init() {}
}

/// A snapshot of a consumer's handlers.
package struct DeliveryLook: Sendable {
    package var isPaused = false
    /// How long the kill switch still lets nothing start.
    package var tripped: Duration?
    package var concurrency = 0
    package var rate: DeliveryRate?
    package var running = 0
    package var unsettled = 0
    package var zombies = 0

    init() {}
}

/// An actor that works on queues, and can be inspected and paused through this interface.
package protocol ObservableWorker: Actor {
    nonisolated func look() -> WorkerLook
    /// The broker's status of a queue.
    nonisolated func status(ofQueue queue: String) async -> QueueStatus?
    func pause() async
    func resume() async
}
