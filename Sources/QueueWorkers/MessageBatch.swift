internal import ConcurrencyPrimitives
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

    /// This message was not handled. What becomes of it is decided as if its handler had thrown this.
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

/// Brings the interceptors of the messages of a batch together in front of its handler.
final class BatchGathering: Sendable {
    private struct State {
        /// Of those whose interceptors run and have not called `next`.
        var undecided: Set<Int>
        var present: Set<Int> = []
    }

    private let state: Mutex<State>
    private let isComplete = OneShot<[Int]>()
    private let errors = OneShot<[Int: any Error]>()

    init(_ count: Int) {
        state = Mutex(State(undecided: Set(0..<count)))
    }

    /// A message is to be handled. Returns when the batch has been, and throws what went wrong with this one.
    func join(_ index: Int) async throws {
        decide(index, isPresent: true)
        guard let errors = await errors.wait() else { throw CancellationError() }
        if let error = errors[index] { throw error }
    }

    /// The interceptors of a message have ended. If it was not to be handled, the others do not wait for it any more.
    func leave(_ index: Int) {
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

    /// Waits for all that are to be handled, and returns their places; nil if there are none, or the task is cancelled.
    func all() async -> [Int]? {
        guard let present = await isComplete.wait(), !present.isEmpty else { return nil }
        return present
    }

    /// What went wrong with each.
    func end(_ outcomes: some Sequence<(Int, (any Error)?)>) {
        var errors: [Int: any Error] = [:]
        for (index, error) in outcomes { errors[index] = error }
        self.errors.set(errors)
    }
}
