import AMQPPool
internal import ConcurrencyPrimitives
import DequeModule
import Synchronization

/// The ids of messages that have been handled or are being handled.
final class HandledMessages: Sendable {
    private struct State {
        var times: [String: ContinuousClock.Instant] = [:]
        var order = Deque<(id: String, time: ContinuousClock.Instant)>()
        var running: [String: OneShot<Void>] = [:]
    }

    private let settings: WorkerDeduplication
    private let state = Mutex(State())

    init(_ settings: WorkerDeduplication) {
        self.settings = settings
    }

    /// Begins to handle a message; waits for another one with the same id that is being handled. `false`: it has been handled.
    func begin(_ id: String) async throws -> Bool {
        while true {
            let running = state.withLock { state -> OneShot<Void>? in
                drop(&state)
                if state.times[id] != nil { return nil }
                if let running = state.running[id] { return running }
                state.running[id] = OneShot()
                return nil
            }
            guard let running else { return state.withLock { $0.times[id] == nil } }
            guard await running.wait() != nil else { throw CancellationError() }
        }
    }

    func end(_ id: String, isHandled: Bool) {
        let running = state.withLock { state in
            if isHandled {
                state.times[id] = .now
                state.order.append((id, .now))
                drop(&state)
            }
            return state.running.removeValue(forKey: id)
        }
        running?.set(())
    }

    private func drop(_ state: inout State) {
        let now = ContinuousClock.now
        while let oldest = state.order.first,
            state.order.count > settings.maximumEntries || oldest.time + settings.maximumAge.bounded <= now
        {
            state.order.removeFirst()
            if state.times[oldest.id] == oldest.time { state.times[oldest.id] = nil }
        }
    }
}
