import Synchronization

/// A one-time event: closed at first, then open permanently.
///
/// Optimised for large numbers of latches with one waiter each, and smaller than a ``Monitor``.
public final class Latch: Sendable {
    private enum Observer: Sendable {
        // Unchecked, because a checked continuation is larger. It is resumed by whoever removes it, so exactly once.
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
        var isOpen = false
        var lastToken: UInt64 = 0
        // In the order of their tokens. Usually one, which needs no array.
        var first: Entry?
        var others: [Entry] = []

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

    /// Creates a closed latch.
    public init() {}

    /// Whether it has been opened.
    public var isOpen: Bool { state.withLock { $0.isOpen } }

    /// Opens the latch: resumes the waiters and calls the handlers, in order of arrival. Does nothing when it is already open.
    public func open() {
        let observers = state.withLock { state in
            state.isOpen = true
            return state.removeAll()
        }
        for observer in observers { observer.run() }
    }

    /// Returns when the latch is open, or the waiting task is cancelled.
    public func wait() async {
        let token = nextToken()
        await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                let isDue = state.withLock { state in
                    // The task is marked as cancelled before its handler runs, which may have found no waiter.
                    if state.isOpen || Task.isCancelled { return true }
                    state.append((token, .waiter(continuation)))
                    return false
                }
                if isDue { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.remove(token) }?.run()
        }
    }

    /// Calls `handler` once when the latch opens; immediately if it is open.
    public func whenOpen(_ handler: @escaping @Sendable () -> Void) {
        let token = nextToken()
        let isOpen = state.withLock { state in
            if !state.isOpen { state.append((token, .handler(handler))) }
            return state.isOpen
        }
        if isOpen { handler() }
    }

    private func nextToken() -> UInt64 {
        state.withLock { state in
            state.lastToken += 1
            return state.lastToken
        }
    }
}
