import Logging
import Supervision
import Synchronization

extension AMQPPool {
    /// The messages of a queue, one after another: for those who want no handler and no child of a supervisor.
    ///
    ///     try await pool.withDeliveries(of: "orders", prefetch: 20) { deliveries in
    ///         for await order in deliveries {
    ///             try await handle(order.delivery.body)
    ///             order.acknowledge()
    ///         }
    ///     }
    ///
    /// Each is to be acknowledged or rejected: `prefetch` that are not, and no more come. The sequence survives what a
    /// ``Consumer`` survives, without a word: a delivery may come twice, and an acknowledgement may come to nothing. It ends
    /// when the task is cancelled. When the body ends, the broker takes back what was not settled.
    ///
    /// - Parameters:
    ///   - queue: the queue to consume.
    ///   - prefetch: how many deliveries may be unsettled, at least 1; also the bound of those that wait here.
    ///   - exclusive: whether nobody else may consume the queue. If it is taken, this waits, and takes over.
    ///   - arguments: the broker's extensions, as a priority.
    ///   - missingQueue: what to do while the queue is not there.
    ///   - onOpen: declares what is needed, before each time consuming begins.
    ///   - body: takes the deliveries. Several tasks may share them.
    /// - Throws: what the body throws, or what ended the sequence: what `onOpen` throws, or the broker's refusal of what it
    ///   declares (403, 406).
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

        /// The deliveries that nobody else has taken.
        public func makeAsyncIterator() -> Iterator { Iterator(queue: queue) }

        /// Takes one delivery after another.
        public struct Iterator: AsyncIteratorProtocol {
            let queue: DeliveryQueue

            /// Waits for the next delivery; nil when there will be none, or the task is cancelled.
            public mutating func next() async -> UnsettledDelivery? { await queue.next() }

            /// Waits for the next delivery; nil when there will be none, or the task is cancelled.
            public mutating func next(isolation actor: isolated (any Actor)?) async -> UnsettledDelivery? {
                await queue.next()
            }
        }
    }
}

/// A delivery that somebody takes, and settles himself.
private final class HandedOver: DeliveredMessage {
    let delivery: Delivery

    init(_ delivery: Delivery) {
        self.delivery = delivery
    }

    /// What was delivered: all that its runner has.
    static func of(_ item: DeliveryCore.Item) -> HandedOver? {
        // A cast of an existential, which would do the same, costs several hundred instructions.
        type(of: item.message) == HandedOver.self ? unsafeDowncast(item.message, to: HandedOver.self) : nil
    }
}

extension DeliveryRunner {
    /// A runner whose deliveries somebody takes, and settles himself.
    fileprivate static func handingOver(to queue: DeliveryQueue) -> DeliveryRunner {
        var settings = Core.Settings()
        settings.concurrency = .max
        settings.zombies = .unknown
        var behavior = Behavior(handle: { _ in [] })
        // Set below, since what is handed over knows the runner.
        let reference = Mutex<Unowned?>(nil)
        behavior.handOver = { run in
            guard let runner = reference.withLock({ $0?.runner }), let message = HandedOver.of(run.first) else {
                return
            }
            queue.append(UnsettledDelivery(delivery: message.delivery, run: run.id, runner: runner))
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
