import AMQPPool
internal import ConcurrencyPrimitives
import Logging
import NIOCore
import Synchronization

/// Limits how much is handled on the event loop of a connection (``RPCHandler/Place/onConnection``), because everything else on the
/// connection waits in the meantime.
final class ConnectionTurns: Sendable {
    /// How many handlers start there per turn of the loop, which is usually one read.
    static let limit = 64
    /// The largest argument that is decoded there, in bytes.
    static let largestBody = 16 << 10

    private let begun = Mutex<[ObjectIdentifier: Int]>([:])
    private let watch: LoopWatch

    init(logger: Logger) {
        watch = LoopWatch(logger: logger)
    }

    /// Whether a handler may start here. `false` if this is not an event loop, or its limit for this turn is reached.
    func mayBegin(_ size: Int, on eventLoop: (any EventLoop)?) -> Bool {
        guard let eventLoop, eventLoop.inEventLoop, size <= Self.largestBody else { return false }
        let loop = ObjectIdentifier(eventLoop)
        let count = begun.withLock { begun in
            let count = begun[loop, default: 0] + 1
            if count <= Self.limit { begun[loop] = count }
            return count
        }
        if count == 1 { eventLoop.execute { [self] in begun.withLock { _ = $0.removeValue(forKey: loop) } } }
        return count <= Self.limit
    }

    /// Runs `body` on an event loop, and logs a warning if that takes long.
    func run<Result>(_ procedure: String?, _ body: () -> Result) -> Result {
        let start = NIODeadline.now()
        defer { watch.ran(since: start, "the procedure \"\((procedure ?? "").escaped)\"") }
        return body()
    }
}
