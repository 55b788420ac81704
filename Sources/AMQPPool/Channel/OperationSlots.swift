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
        switch (self, reply) {
        case (.channelOpen, .channelOpenOK), (.channelFlow, .channelFlowOK),
            (.exchangeDeclare, .exchangeDeclareOK), (.exchangeDelete, .exchangeDeleteOK),
            (.exchangeBind, .exchangeBindOK), (.exchangeUnbind, .exchangeUnbindOK),
            (.queueDeclare, .queueDeclareOK), (.queueBind, .queueBindOK), (.queueUnbind, .queueUnbindOK),
            (.queuePurge, .queuePurgeOK), (.queueDelete, .queueDeleteOK),
            (.basicQos, .basicQosOK), (.basicRecover, .basicRecoverOK),
            (.basicGet, .basicGetOK), (.basicGet, .basicGetEmpty), (.confirmSelect, .confirmSelectOK):
            true
        case (.basicConsume(let request), .basicConsumeOK(let tag)): request.consumerTag == tag
        case (.basicCancel(let requested, _), .basicCancelOK(let tag)): requested == tag
        default: false
        }
    }
}
