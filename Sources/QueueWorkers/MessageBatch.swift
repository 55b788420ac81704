import Synchronization

/// Messages that are handled together, and settled each by itself.
///
///     Child.batchWorker(of: Order.self, from: "orders", on: pool, size: 100, within: .seconds(1)) { batch in
///         let refused = try await store(batch.messages.map(\.value))
///         for message in batch.messages where refused.contains(message.value.number) {
///             batch.fail(message, with: OrderError.refused)
///         }
///     }
///
/// What is not failed has succeeded when the handler returns. If it throws, all that was not failed has failed with that error.
public struct MessageBatch<Value: Sendable>: Sendable {
    /// One of the messages.
    public struct Message: Sendable {
        /// What it says.
        public let value: Value
        /// What is known about it.
        public let context: WorkerContext
        let index: Int
    }

    /// The messages, in the order in which they came.
    public let messages: [Message]
    private let failures: Failures

    init(_ messages: [(value: Value, context: WorkerContext)]) {
        self.messages = messages.enumerated().map {
            Message(value: $0.element.value, context: $0.element.context, index: $0.offset)
        }
        failures = Failures()
    }

    /// This message was not handled. What becomes of it is decided as if its handler had thrown this.
    public func fail(_ message: Message, with error: any Error) {
        failures.errors.withLock { $0[message.index] = error }
    }

    func outcome(_ error: (any Error)?) -> [(any Error)?] {
        let failed = failures.errors.withLock { $0 }
        return messages.map { failed[$0.index] ?? error }
    }

    private final class Failures: Sendable {
        let errors = Mutex<[Int: any Error]>([:])
    }
}
