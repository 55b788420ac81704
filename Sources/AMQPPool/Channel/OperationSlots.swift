import CRabbitMQ
import DequeModule

/// The synchronous operations of one channel: one outstanding, and a bounded queue behind it.
///
/// AMQP answers carry no id: an answer belongs to the outstanding request. A request that nobody waits for therefore keeps its slot until
/// its answer arrives, so that the answer is not taken for that of the next request.
struct OperationSlots {
    struct Slot {
        var id: UInt64
        var request: Method
        /// Whether a caller still waits for the answer.
        var isWanted: Bool
    }

    /// The id of the channel's own operations, which have no caller.
    static let internalID: UInt64 = 0

    private(set) var outstanding: Slot?
    private var waiting = Deque<Slot>()
    private let limit: Int

    /// - Parameter limit: How many operations may wait behind the outstanding one.
    init(limit: Int) {
        self.limit = limit
    }

    enum Admission {
        /// Send it now.
        case send
        /// It is sent once the earlier operations have been answered.
        case queued
        /// The queue is full.
        case refused
    }

    mutating func admit(_ id: UInt64, _ request: Method) -> Admission {
        let isInternal = id == Self.internalID
        let slot = Slot(id: id, request: request, isWanted: !isInternal)
        guard outstanding != nil else {
            outstanding = slot
            return .send
        }
        guard waiting.count < limit || isInternal else { return .refused }
        waiting.append(slot)
        return .queued
    }

    enum Abandonment {
        /// It has been sent; its answer will be ignored.
        case outstanding(Method)
        /// It will not be sent.
        case withdrawn(Method)
        /// It has already completed.
        case unknown
    }

    mutating func abandon(_ id: UInt64) -> Abandonment {
        if let slot = outstanding, slot.id == id {
            guard slot.isWanted else { return .unknown }
            outstanding?.isWanted = false
            return .outstanding(slot.request)
        }
        guard let index = waiting.firstIndex(where: { $0.id == id }) else { return .unknown }
        return .withdrawn(waiting.remove(at: index).request)
    }

    /// Removes and returns the outstanding operation if this is its answer.
    mutating func answer(_ reply: Method) -> Slot? {
        guard let slot = outstanding, slot.request.isAnswered(by: reply) else { return nil }
        outstanding = nil
        return slot
    }

    /// The request to send next, after an answer.
    mutating func next() -> Method? {
        guard outstanding == nil, let slot = waiting.popFirst() else { return nil }
        outstanding = slot
        return slot.request
    }

    /// Empties the slots: the sent operation, and the unsent ones.
    mutating func removeAll() -> (sent: Slot?, unsent: Deque<Slot>) {
        defer {
            outstanding = nil
            waiting.removeAll()
        }
        return (outstanding, waiting)
    }
}

extension Method {
    /// Whether `reply` is the broker's answer to this request.
    func isAnswered(by reply: Method) -> Bool {
        switch self {
        case .channelOpen: reply.id == AMQP_CHANNEL_OPEN_OK_METHOD
        case .channelFlow: reply.id == AMQP_CHANNEL_FLOW_OK_METHOD
        case .exchangeDeclare: reply.id == AMQP_EXCHANGE_DECLARE_OK_METHOD
        case .exchangeDelete: reply.id == AMQP_EXCHANGE_DELETE_OK_METHOD
        case .exchangeBind: reply.id == AMQP_EXCHANGE_BIND_OK_METHOD
        case .exchangeUnbind: reply.id == AMQP_EXCHANGE_UNBIND_OK_METHOD
        case .queueDeclare: reply.id == AMQP_QUEUE_DECLARE_OK_METHOD
        case .queueBind: reply.id == AMQP_QUEUE_BIND_OK_METHOD
        case .queueUnbind: reply.id == AMQP_QUEUE_UNBIND_OK_METHOD
        case .queuePurge: reply.id == AMQP_QUEUE_PURGE_OK_METHOD
        case .queueDelete: reply.id == AMQP_QUEUE_DELETE_OK_METHOD
        case .basicQos: reply.id == AMQP_BASIC_QOS_OK_METHOD
        case .basicRecover: reply.id == AMQP_BASIC_RECOVER_OK_METHOD
        case .basicGet: reply.id == AMQP_BASIC_GET_OK_METHOD || reply.id == AMQP_BASIC_GET_EMPTY_METHOD
        case .confirmSelect: reply.id == AMQP_CONFIRM_SELECT_OK_METHOD
        case .basicConsume(let request): reply == .basicConsumeOK(consumerTag: request.consumerTag)
        case .basicCancel(let tag, _): reply == .basicCancelOK(consumerTag: tag)
        // Of the connection, answered in another place, or answers themselves.
        case .connectionStart, .connectionStartOK, .connectionSecure, .connectionSecureOK, .connectionTune,
            .connectionTuneOK, .connectionOpen, .connectionOpenOK, .connectionClose, .connectionCloseOK,
            .connectionBlocked, .connectionUnblocked, .connectionUpdateSecret, .connectionUpdateSecretOK,
            .channelOpenOK, .channelFlowOK, .channelClose, .channelCloseOK, .exchangeDeclareOK, .exchangeDeleteOK,
            .exchangeBindOK, .exchangeUnbindOK, .queueDeclareOK, .queueBindOK, .queueUnbindOK, .queuePurgeOK,
            .queueDeleteOK, .basicQosOK, .basicConsumeOK, .basicCancelOK, .basicPublish, .basicReturn, .basicDeliver,
            .basicGetOK, .basicGetEmpty, .basicAck, .basicReject, .basicNack, .basicRecoverOK, .confirmSelectOK,
            .unsupported:
            false
        }
    }
}
