import Logging
import Supervision
import Synchronization

extension AMQPPool {
    /// Consumes a queue as a sequence of messages, without a handler or a supervised child.
    ///
    ///     try await pool.withDeliveries(of: "orders", prefetch: 20) { deliveries in
    ///         for await order in deliveries {
    ///             try await handle(order.delivery.body)
    ///             order.acknowledge()
    ///         }
    ///     }
    ///
    /// Each delivery has to be acknowledged or rejected: while `prefetch` deliveries are unsettled, no more arrive. The sequence survives
    /// the same failures as a ``Consumer``, silently: a delivery may be repeated, and an acknowledgement may be lost. It ends when the task
    /// is cancelled. When the body ends, unsettled deliveries return to the broker.
    ///
    /// - Parameters:
    ///   - queue: The queue to consume.
    ///   - prefetch: The maximum number of unsettled deliveries, at least 1; it also bounds the deliveries buffered here.
    ///   - exclusive: Whether nobody else may consume the queue. If another consumer has it, this one waits and takes over.
    ///   - arguments: Extensions of the broker, for example a priority.
    ///   - missingQueue: What to do while the queue does not exist.
    ///   - onOpen: Declares what is needed, each time before consuming begins.
    ///   - body: Processes the deliveries. Several tasks may share them.
    /// - Throws: What the body throws, or the error that ended the sequence: what `onOpen` throws, or the broker's refusal of its
    ///   declarations (403, 406).
    public func withDeliveries<Result: Sendable>(
        of queue: String,
        prefetch: UInt16 = 10,
        exclusive: Bool = false,
        arguments: ConsumerArguments = ConsumerArguments(),
        missingQueue: MissingQueuePolicy = .wait,
        onOpen: @escaping @Sendable (AMQPChannel) async throws -> Void = { _ in },
        _ body: @escaping @Sendable (Deliveries) async throws -> Result
    ) async throws -> Result {
        let deliveries = DeliveryQueue()
        let runner = DeliveryRunner.handingOver(to: deliveries)
        var settings = ConsumerLoop.Settings(
            queue: queue,
            owner: nil,
            prefetch: max(1, prefetch),
            backoff: ConsumerConfiguration().reopenBackoff,
            log: BrokerLog(
                .init(kind: "deliveries", name: queue, working: "consuming", connections: 1, opensConnections: false),
                logger: logger
            ),
            onOpen: onOpen
        )
        settings.exclusive = exclusive
        settings.arguments = arguments
        settings.missingQueue = missingQueue
        let loop = ConsumerLoop(
            settings,
            pool: self,
            runner: runner,
            prepare: { delivery, _ in PreparedDelivery(HandedOver(delivery)) }
        )
        let result = await withTaskGroup(of: (any Error)?.self) { group in
            group.addTask {
                do {
                    try await loop.run()
                    return nil
                } catch {
                    deliveries.finish()
                    return error
                }
            }
            let result: Swift.Result<Result, any Error>
            do {
                result = .success(try await body(Deliveries(queue: deliveries)))
            } catch {
                result = .failure(error)
            }
            group.cancelAll()
            let end = await group.next() ?? nil
            deliveries.finish()
            await loop.close()
            if case .success = result, let end, !(end is CancellationError), !Task.isCancelled {
                return Swift.Result<Result, any Error>.failure(end)
            }
            return result
        }
        return try result.get()
    }

    /// The deliveries of ``withDeliveries(of:prefetch:exclusive:arguments:missingQueue:onOpen:_:)``.
    public struct Deliveries: AsyncSequence, Sendable {
        let queue: DeliveryQueue

        /// An iterator over the deliveries that nobody else has taken.
        public func makeAsyncIterator() -> Iterator { Iterator(queue: queue) }

        /// Iterates over deliveries.
        public struct Iterator: AsyncIteratorProtocol {
            let queue: DeliveryQueue

            /// Waits for the next delivery; `nil` when the sequence has ended, or the task is cancelled.
            public mutating func next() async -> UnsettledDelivery? { await queue.next() }

            /// Waits for the next delivery; `nil` when the sequence has ended, or the task is cancelled.
            public mutating func next(isolation actor: isolated (any Actor)?) async -> UnsettledDelivery? {
                await queue.next()
            }
        }
    }
}

/// A delivery that its receiver settles.
final class HandedOver: DeliveredMessage {
    let delivery: Delivery

    init(_ delivery: Delivery) {
        self.delivery = delivery
    }

    /// The message of a run, which has only one.
    fileprivate static func of(_ item: DeliveryCore.Item) -> HandedOver? {
        // A cast of an existential would do the same, but costs several hundred instructions.
        type(of: item.message) == HandedOver.self ? unsafeDowncast(item.message, to: HandedOver.self) : nil
    }
}

extension DeliveryRunner {
    /// A runner that passes its deliveries to the queue, whose readers settle them.
    fileprivate static func handingOver(to queue: DeliveryQueue) -> DeliveryRunner {
        var settings = Core.Settings()
        settings.concurrency = .max
        settings.zombies = .unknown
        var behavior = Behavior(handle: { _ in [] })
        // Set below, because the closure refers to the runner.
        let reference = Mutex<Unowned?>(nil)
        behavior.handOver = { run in
            guard let runner = reference.withLock({ $0?.runner }), let message = HandedOver.of(run.first) else {
                return
            }
            queue.append(UnsettledDelivery(message: message, run: run.id, runner: runner))
        }
        behavior.takeBack = { _, run in queue.remove(run) }
        let runner = DeliveryRunner(settings, behavior: behavior)
        reference.withLock { $0 = Unowned(runner: runner) }
        return runner
    }

    private struct Unowned: Sendable {
        weak var runner: DeliveryRunner?
    }
}
