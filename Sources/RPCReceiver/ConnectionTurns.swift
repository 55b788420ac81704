import AMQPPool
internal import ConcurrencyPrimitives
import Logging
import NIOCore
import Synchronization

/// How much is handled on the event loop of a connection itself (``Procedure/Place/onConnection``): all that the connection does waits
/// meanwhile.
final class ConnectionTurns: Sendable {
    /// How many handlers begin there in one turn of the loop: that is one read, as a rule.
    static let limit = 64
    /// The largest argument that is decoded there, in bytes.
    static let largestBody = 16 << 10

    private let begun = Mutex<[ObjectIdentifier: Int]>([:])
    private let watch: LoopWatch

    init(logger: Logger) {
        watch = LoopWatch(logger: logger)
    }

    /// Whether a handler may begin here and now. `false` where this is no event loop, or it has done enough in this turn.
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

    /// Does something on an event loop, and warns when that takes long.
    func run<Result>(_ procedure: String?, _ body: () -> Result) -> Result {
        let start = NIODeadline.now()
        defer { watch.ran(since: start, "the procedure \"\((procedure ?? "").escaped)\"") }
        return body()
    }
}
