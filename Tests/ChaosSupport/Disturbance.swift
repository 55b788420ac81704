import SupervisionTesting

/// What kills and faults entitle calls to fail with (design part 7): everything else is a fault of ours.
struct Disturbance: Sendable {
    /// The broker may have lost messages that it had confirmed, and what it knew of deliveries.
    private(set) var losesMessages = false
    private var permitted: Set<String> = []

    init(_ scene: Chaos.Invariant.Scene, caller: String) {
        let changed = scene.effects.restarted.union(scene.effects.removed)
        // The table of calls is a new one.
        if changed.contains("\(caller)/pending") { permitted.insert("callerRestarted") }
        // No channel consumed the reply queue at some moment, perhaps.
        let channels = (1...2).map { "\(caller)/pool/connection-supervisor-\($0)/channel-supervisor/channel-1" }
        if changed.isSuperset(of: channels) { permitted.insert("replyQueueLost") }
        // A pool or a consumer without a broker, or in the middle of a restart.
        permitted.formUnion(["AMQP not sent", "AMQP in doubt"])
        for kill in scene.kills {
            switch kill.way {
            case .outside: permit(kill.path)
            // Its closing handshake is bounded, and a machine may be slow.
            case .hang: permitted.insert("connectionLost(true)")
            default: continue
            }
        }
    }

    private mutating func permit(_ fault: String) {
        switch fault {
        case "reply-queue-deleted": permitted.insert("replyQueueLost")
        case "request-queue-deleted":
            losesMessages = true
            permitted.formUnion(["timeout", "unroutable"])
        case "memory-alarm": break
        case _ where fault.hasPrefix("broker-"):
            losesMessages = true
            permitted.formUnion([
                "connectionLost(true)", "replyQueueLost", "unroutable", "timeout", "notConnected", "rejectedByBroker",
            ])
        case _ where fault.hasPrefix("receiver-network") || fault.hasPrefix("consumer-network"): break
        default: permitted.formUnion(["connectionLost(true)", "replyQueueLost"])
        }
    }

    func permits(_ error: String) -> Bool { permitted.contains(error) }
}
