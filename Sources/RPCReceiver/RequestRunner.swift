import AMQPPool
internal import ConcurrencyPrimitives
import Logging
import RPCWire

/// Runs the requests of a receiver: ``RequestPolicy`` over ``DeliveryRunner``.
final class RequestRunner: Sendable {
    private let policy: RequestPolicy
    private let deliveries: DeliveryRunner

    init(
        procedures: Procedures,
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

    /// Requests come on this channel from now on, until ``channelClosed(_:_:)``.
    func channelOpened(_ channel: ObjectIdentifier) {
        deliveries.open(DeliveryCore.Source(channel))
    }

    /// Takes on a request that was delivered on a channel. Does not block.
    func accept(_ request: any IncomingRequest, from channel: ObjectIdentifier) {
        policy.accept(request, from: channel, on: deliveries)
    }

    /// A channel is gone: its handlers are cancelled, and the broker redelivers its requests.
    func channelClosed(_ channel: ObjectIdentifier, _ error: AMQPError) {
        // Perhaps for a reply. Its request is redelivered: what the broker takes, and whether, is known then.
        policy.brokerLimit.learn(from: error)
        policy.permission.learn(from: error)
        policy.memory.closed(channel, error)
        deliveries.close(DeliveryCore.Source(channel))
    }

    /// The end of this incarnation: every handler is cancelled and nothing is answered any more.
    func close() {
        deliveries.closeAll()
    }

    /// Waits until no request of a channel is left unanswered; `false` at the deadline, or when the task is cancelled.
    /// Something has to stop new ones from coming first.
    func idle(_ channel: ObjectIdentifier, before deadline: ContinuousClock.Instant) async -> Bool {
        await deliveries.idle(DeliveryCore.Source(channel), atMost: ContinuousClock.now.duration(to: deadline))
    }

    /// How many requests are taken on and not answered.
    var count: Int { deliveries.count }

    /// How many handlers run on although their requests are given up.
    var zombieCount: Int { deliveries.zombieCount }

    /// The requests that were taken on first, and how many run and wait.
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
