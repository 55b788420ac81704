import Synchronization

/// A supervisor's wish that a worker ends, for the worker to observe: what an exit signal is to an Erlang process that traps
/// exits.
///
/// Taking it from ``ChildContext/stopRequest`` is what makes a worker one that is asked before it is cancelled:
///
///     actor Flusher: Worker {
///         let stop: StopRequest
///         init(_ context: ChildContext) { stop = context.stopRequest }
///
///         func run() async throws {
///             await stop.wait()          // or look at stop.isRequested between two pieces of work
///             try await flush()
///         }
///     }
public struct StopRequest: Sendable {
    let signal: StopSignal

    /// Whether the worker has been asked to end.
    public var isRequested: Bool { signal.isRequested }

    /// Returns when the worker has been asked to end, or the waiting task is cancelled.
    public func wait() async {
        let token = signal.reserveToken()
        await withTaskCancellationHandler {
            // Not a checked one, since most workers wait here for most of their lives, and it is larger. Whoever takes it out of
            // the signal's table resumes it, so that it is resumed once.
            await withUnsafeContinuation { signal.add(token, .waiter($0)) }
        } onCancel: {
            signal.runNow(token)
        }
    }

    /// Calls `handler` once when the worker is asked to end; at once if it has been. The handler must not block.
    public func onRequest(_ handler: @escaping @Sendable () -> Void) {
        signal.add(signal.reserveToken(), .handler(handler))
    }
}

/// The flag behind ``StopRequest``, and who waits for it.
final class StopSignal: Sendable {
    enum Observer: Sendable {
        case waiter(UnsafeContinuation<Void, Never>)
        case handler(@Sendable () -> Void)

        func run() {
            switch self {
            case .waiter(let continuation): continuation.resume()
            case .handler(let handler): handler()
            }
        }
    }

    private typealias Entry = (token: UInt64, observer: Observer)

    private struct State {
        var isRequested = false
        var lastToken: UInt64 = 0
        // In the order of their tokens. Mostly one, which needs no array; a worker adds as many as it waits in places.
        var first: Entry?
        var others: [Entry] = []
        /// Cancelled before their observer was added.
        var cancelled: Set<UInt64> = []

        mutating func append(_ entry: Entry) {
            if first == nil { first = entry } else { others.append(entry) }
        }

        mutating func remove(_ token: UInt64) -> Observer? {
            if let found = first, found.token == token {
                first = others.isEmpty ? nil : others.removeFirst()
                return found.observer
            }
            guard let index = others.firstIndex(where: { $0.token == token }) else { return nil }
            return others.remove(at: index).observer
        }

        mutating func removeAll() -> [Observer] {
            defer { (first, others) = (nil, []) }
            return ([first].compactMap { $0 } + others).map(\.observer)
        }
    }

    private let state = Mutex(State())

    var isRequested: Bool { state.withLock { $0.isRequested } }

    func reserveToken() -> UInt64 {
        state.withLock { state in
            state.lastToken += 1
            return state.lastToken
        }
    }

    func add(_ token: UInt64, _ observer: Observer) {
        let isDue = state.withLock { state in
            if state.isRequested || state.cancelled.remove(token) != nil { return true }
            state.append((token, observer))
            return false
        }
        if isDue { observer.run() }
    }

    func runNow(_ token: UInt64) {
        let observer = state.withLock { state -> Observer? in
            if let observer = state.remove(token) { return observer }
            if !state.isRequested { state.cancelled.insert(token) }
            return nil
        }
        observer?.run()
    }

    func request() {
        let observers = state.withLock { state in
            state.isRequested = true
            return state.removeAll()
        }
        for observer in observers { observer.run() }
    }
}
