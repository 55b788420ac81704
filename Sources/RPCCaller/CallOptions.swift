import RPCWire

/// What a call wants besides its request.
struct CallOptions: Sendable {
    /// The queue that it goes into through the default exchange, instead of to whoever takes the requests of its destination.
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
}
