internal import ConcurrencyPrimitives
import Synchronization

/// Messages that are handled together, but settled individually.
///
///     Child.batchWorker(of: Order.self, from: "orders", on: pool, size: 100, within: .seconds(1)) { batch in
///         let refused = try await store(batch.messages.map(\.value))
///         for message in batch.messages where refused.contains(message.value.number) {
///             batch.fail(message, with: OrderError.refused)
///         }
///     }
///
/// Messages that have not been failed succeed when the handler returns. If it throws, they fail with that error.
public struct MessageBatch<Value: Sendable>: Sendable {
    /// One of the messages.
    public struct Message: Sendable {
        /// The decoded value.
        public let value: Value
        /// The context of the message.
        public let context: WorkerContext
        let index: Int
    }

    /// The messages, in order of arrival.
    public let messages: [Message]
    private let count: Int
    private let failures = Failures()

    init(_ inputs: [WorkerHandler.Input]) {
        count = inputs.count
        var messages: [Message] = []
        messages.reserveCapacity(count)
        for (index, input) in inputs.enumerated() {
            guard let value = input.value as? Value else { continue }
            messages.append(Message(value: value, context: input.context, index: index))
        }
        self.messages = messages
    }

    /// Marks a message as failed. What happens to it is decided as if its handler had thrown this error.
    public func fail(_ message: Message, with error: any Error) {
        failures.errors.withLock { $0[message.index] = error }
    }

    func outcome(_ error: (any Error)?) -> [(any Error)?] {
        let failed = failures.errors.withLock { $0 }
        var outcome = [(any Error)?](repeating: error, count: count)
        for (index, error) in failed where outcome.indices.contains(index) { outcome[index] = error }
        return outcome
    }

    private final class Failures: Sendable {
        let errors = Mutex<[Int: any Error]>([:])
    }
}

/// A barrier in front of the handler of a batch: it waits for the interceptors of all messages.
final class BatchBarrier: Sendable {
    private struct State {
        /// The messages whose interceptors are running and have not called `next`.
        var undecided: Set<Int>
        var present: Set<Int> = []
    }

    private let state: Mutex<State>
    private let isComplete = OneShot<[Int]>()
    private let errors = OneShot<[Int: any Error]>()

    init(_ count: Int) {
        state = Mutex(State(undecided: Set(0..<count)))
    }

    /// A message is to be handled. Returns when the batch has been handled, and throws the error of this message.
    func arriveAndWait(_ index: Int) async throws {
        decide(index, isPresent: true)
        guard let errors = await errors.wait() else { throw CancellationError() }
        if let error = errors[index] { throw error }
    }

    /// The interceptors of a message have ended. If they did not call `next`, the others no longer wait for it.
    func deregister(_ index: Int) {
        decide(index, isPresent: false)
    }

    private func decide(_ index: Int, isPresent: Bool) {
        let complete = state.withLock { state -> [Int]? in
            guard state.undecided.remove(index) != nil else { return nil }
            if isPresent { state.present.insert(index) }
            return state.undecided.isEmpty ? state.present.sorted() : nil
        }
        if let complete { isComplete.set(complete) }
    }

    /// Waits until all messages are decided, and returns the indices of those to handle; `nil` if there are none, or the task is cancelled.
    func arrived() async -> [Int]? {
        guard let present = await isComplete.wait(), !present.isEmpty else { return nil }
        return present
    }

    /// The batch has been handled, with the error of each message, if any.
    func release(_ outcomes: some Sequence<(Int, (any Error)?)>) {
        var errors: [Int: any Error] = [:]
        for (index, error) in outcomes { errors[index] = error }
        self.errors.set(errors)
    }
}
