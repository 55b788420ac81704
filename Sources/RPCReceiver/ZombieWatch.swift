import NIOCore
import Synchronization

/// Watches how many handlers run on although they were cancelled, and tells when they have been too many for a moment.
///
/// Every handler that is cancelled is a zombie until it notices: that many at once means nothing unless it lasts.
final class ZombieWatch: Sendable {
    /// How long too many are too many.
    static var patience: TimeAmount { .seconds(1) }

    private struct State {
        var zombies = 0
        var isTooMany = false
        var check: Scheduled<Void>?
        var hasEnded = false
        var onChange: (@Sendable (_ isTooMany: Bool, _ zombies: Int) -> Void)?
    }

    private let limit: Int
    private let eventLoop: any EventLoop
    private let state = Mutex(State())

    /// - Parameter limit: More than this many are too many.
    init(limit: Int, eventLoop: any EventLoop) {
        self.limit = max(1, limit)
        self.eventLoop = eventLoop
    }

    func onChange(_ body: @escaping @Sendable (_ isTooMany: Bool, _ zombies: Int) -> Void) {
        state.withLock { $0.onChange = body }
    }

    /// There are this many now.
    func count(_ zombies: Int) {
        let tell = state.withLock { state -> (@Sendable (Bool, Int) -> Void)? in
            guard !state.hasEnded else { return nil }
            state.zombies = zombies
            if zombies > limit {
                if !state.isTooMany, state.check == nil {
                    state.check = eventLoop.scheduleTask(in: Self.patience) { [weak self] in self?.look() }
                }
                return nil
            }
            state.check?.cancel()
            state.check = nil
            guard state.isTooMany else { return nil }
            state.isTooMany = false
            return state.onChange
        }
        tell?(false, zombies)
    }

    private func look() {
        let (tell, zombies) = state.withLock { state -> ((@Sendable (Bool, Int) -> Void)?, Int) in
            state.check = nil
            guard !state.hasEnded, state.zombies > limit else { return (nil, 0) }
            state.isTooMany = true
            return (state.onChange, state.zombies)
        }
        tell?(true, zombies)
    }

    /// Nobody is told any more.
    func end() {
        state.withLock { state in
            state.hasEnded = true
            state.check?.cancel()
            state.check = nil
            state.onChange = nil
        }
    }
}
