import RPCWire

/// The options of a call apart from its request.
struct CallOptions: Sendable {
    /// The queue to send to through the default exchange, instead of routing by the destination.
    var queue: String?
    var retry = RPCRetry.never
}

/// What an entry of the pending table waits for.
enum CallKind: Sendable, Equatable {
    /// A reply.
    case call
    /// The broker's confirm.
    case cast
    /// A channel to be ready.
    case readiness

    init(_ kind: RPCRequest.Kind) {
        switch kind {
        case .call: self = .call
        case .cast: self = .cast
        }
    }

    /// Whether a reply ends it.
    var awaitsReply: Bool {
        switch self {
        case .call: true
        case .cast, .readiness: false
        }
    }

    /// Whether a message is sent for it.
    var isRequest: Bool {
        switch self {
        case .call, .cast: true
        case .readiness: false
        }
    }
}
