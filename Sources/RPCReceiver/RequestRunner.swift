import AMQPPool
internal import ConcurrencyPrimitives
import Logging
import RPCWire

/// Runs the requests of a receiver: ``RequestPolicy`` on top of ``DeliveryRunner``.
final class RequestRunner: Sendable {
    private let policy: RequestPolicy
    private let deliveries: DeliveryRunner

    init(
        procedures: RPCHandlers,
        settings: RequestPolicy.Settings,
        counters: ReceiverCounters,
        logger: Logger,
        brokerLimit: BrokerMessageLimit = BrokerMessageLimit(),
        permission: ReplyPermission = ReplyPermission(),
        memory: DeliveryMemory,
        isolated: IsolatedReplies,
        zombiesChanged: @escaping @Sendable (Int) -> Void = { _ in }
    ) {
        policy = RequestPolicy(
            procedures: procedures,
            settings: settings,
            counters: counters,
            logger: logger,
            brokerLimit: brokerLimit,
            permission: permission,
            memory: memory,
            isolated: isolated
        )
        deliveries = DeliveryRunner(policy.engineSettings, behavior: policy.behavior(zombiesChanged: zombiesChanged))
    }

    /// Accepts requests of this channel from now on, until ``channelClosed(_:_:)``.
    func channelOpened(_ channel: ObjectIdentifier) {
        deliveries.open(DeliveryCore.Source(channel))
    }

    /// Accepts a request that was delivered on a channel. Does not block.
    func accept(_ request: any IncomingRequest, from channel: ObjectIdentifier) {
        policy.accept(request, from: channel, on: deliveries)
    }

    /// A channel has ended: its handlers are cancelled, and the broker redelivers its requests.
    func channelClosed(_ channel: ObjectIdentifier, _ error: AMQPError) {
        // Perhaps because of a reply. Its request is redelivered, and the limit is known by then.
        policy.brokerLimit.learn(from: error)
        policy.permission.learn(from: error)
        policy.memory.closed(channel, error)
        deliveries.close(DeliveryCore.Source(channel))
    }

    /// Ends this incarnation: every handler is cancelled and nothing is answered any more.
    func close() {
        deliveries.closeAll()
    }

    /// Waits until no request of a channel is unanswered; `false` at the deadline, or when the task is cancelled. New deliveries must have
    /// been stopped before.
    func idle(_ channel: ObjectIdentifier, before deadline: ContinuousClock.Instant) async -> Bool {
        await deliveries.idle(DeliveryCore.Source(channel), atMost: ContinuousClock.now.duration(to: deadline))
    }

    /// The number of requests that are accepted and unanswered.
    var count: Int { deliveries.count }

    /// The number of handlers that are running after their requests were given up.
    var zombieCount: Int { deliveries.zombieCount }

    /// The oldest requests, and the numbers of running and waiting ones.
    func look(oldest limit: Int) -> (oldest: [CallInFlight], running: Int, waiting: Int) {
        let now = CompactInstant.now
        let (oldest, running, waiting) = deliveries.look(oldest: limit)
        let calls = oldest.compactMap { message, stage in
            (message as? RequestPolicy.Job).map { CallInFlight($0, stage, at: now) }
        }
        return (calls, running, waiting)
    }
}

extension CallInFlight {
    fileprivate init(_ job: RequestPolicy.Job, _ stage: DeliveryCore.Stage, at now: CompactInstant) {
        self.init(
            id: job.message.messageID ?? "",
            procedure: job.message.procedure ?? "",
            age: job.began.duration(to: now),
            remaining: now.duration(to: job.deadline),
            stage: Stage(stage)
        )
    }
}

extension CallInFlight.Stage {
    fileprivate init(_ stage: DeliveryCore.Stage) {
        self =
            switch stage {
            case .waiting, .resuming: .waiting
            case .suspended: .following
            case .running, .released, .zombie: .running
            }
    }
}
