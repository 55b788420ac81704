import NIOCore
import Supervision
import Synchronization

#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// All viewers, and the messages for them. Each has a bounded queue: a slow viewer loses events instead of using memory.
final class ViewerBroadcast: Sendable {
    static let queueLimit = 256

    private struct Viewer {
        var queue = ViewerQueue<ByteBuffer>(limit: ViewerBroadcast.queueLimit)
        var waiter: CheckedContinuation<Void, Never>?
    }

    private struct State {
        var viewers: [UInt64: Viewer] = [:]
        var lastViewer: UInt64 = 0
        var isClosed = false
        var ticker: CheckedContinuation<Void, Never>?
        var listeners: [Int: SupervisionEvents] = [:]
        var interest = EventInterest.failures
    }

    private let maximumViewers: Int
    private let state = Mutex(State())

    init(maximumViewers: Int) {
        self.maximumViewers = maximumViewers
    }

    var count: Int { state.withLock { $0.viewers.count } }

    /// The number of messages dropped for the most loaded viewer.
    var dropped: Int { state.withLock { $0.viewers.values.map(\.queue.dropped).max() ?? 0 } }

    /// The number of messages that wait for the most loaded viewer.
    var waiting: Int { state.withLock { $0.viewers.values.map(\.queue.count).max() ?? 0 } }

    // MARK: Listening

    func addListener(_ events: SupervisionEvents, _ tree: Int) {
        state.withLock { state in
            state.listeners[tree] = events
            events.interest = state.interest
        }
    }

    func removeListener(_ tree: Int) {
        state.withLock { _ = $0.listeners.removeValue(forKey: tree) }
    }

    func listen(to interest: EventInterest) {
        state.withLock { state in
            state.interest = interest
            for events in state.listeners.values { events.interest = interest }
        }
    }

    // MARK: Viewers

    /// `nil` when the limit of viewers is reached, or no more are admitted.
    func join() -> UInt64? {
        let (id, ticker) = state.withLock { state -> (UInt64?, CheckedContinuation<Void, Never>?) in
            guard !state.isClosed, state.viewers.count < maximumViewers else { return (nil, nil) }
            state.lastViewer += 1
            state.viewers[state.lastViewer] = Viewer()
            defer { state.ticker = nil }
            return (state.lastViewer, state.ticker)
        }
        ticker?.resume()
        return id
    }

    func leave(_ id: UInt64) {
        state.withLock { $0.viewers.removeValue(forKey: id) }?.waiter?.resume()
    }

    /// Admits no more viewers, and disconnects all.
    func close() {
        let (viewers, ticker) = state.withLock { state in
            defer {
                state.viewers = [:]
                state.ticker = nil
            }
            state.isClosed = true
            return (state.viewers, state.ticker)
        }
        for viewer in viewers.values { viewer.waiter?.resume() }
        ticker?.resume()
    }

    /// Waits for messages for a viewer, and returns all of them. `nil`: the viewer is to be disconnected.
    func next(_ id: UInt64) async -> [ByteBuffer]? {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let mayWait = state.withLock { state in
                    guard !Task.isCancelled, let viewer = state.viewers[id], viewer.queue.isEmpty else { return false }
                    state.viewers[id]?.waiter = continuation
                    return true
                }
                if !mayWait { continuation.resume() }
            }
        } onCancel: {
            state.withLock { $0.viewers[id]?.waiter.take() }?.resume()
        }
        if Task.isCancelled { return nil }
        return state.withLock { state in
            guard let (messages, dropped) = state.viewers[id]?.queue.takeAll() else { return nil }
            guard let dropped else { return messages }
            return [Self.message("dropped", line: "\(dropped)")] + messages
        }
    }

    // MARK: Sending

    func publish(_ event: EventDocument) {
        guard count > 0, let message = Self.message("change", event, id: event.number) else { return }
        enqueue { $0.append(message) }
    }

    func publish(_ overview: Overview) {
        guard let message = Self.message("overview", overview) else { return }
        enqueue { $0.replace(message) }
    }

    private func enqueue(_ change: (inout ViewerQueue<ByteBuffer>) -> Void) {
        let waiters = state.withLock { state in
            var waiters: [CheckedContinuation<Void, Never>] = []
            for id in state.viewers.keys {
                if let index = state.viewers.index(forKey: id) {
                    change(&state.viewers.values[index].queue)
                    if let waiter = state.viewers.values[index].waiter.take() { waiters.append(waiter) }
                }
            }
            return waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Waits until there is a viewer. `false` when the task was cancelled, or no more are admitted.
    func waitForViewers() async -> Bool {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let mayWait = state.withLock { state in
                    guard !Task.isCancelled, !state.isClosed, state.viewers.isEmpty else { return false }
                    state.ticker = continuation
                    return true
                }
                if !mayWait { continuation.resume() }
            }
        } onCancel: {
            wakeTicker()
        }
        return state.withLock { !$0.viewers.isEmpty } && !Task.isCancelled
    }

    func wakeTicker() {
        state.withLock { $0.ticker.take() }?.resume()
    }

    // MARK: Server-sent events

    static func message(_ name: String, _ document: some Encodable, id: UInt64? = nil) -> ByteBuffer? {
        guard let data = try? JSONEncoder().encode(document) else { return nil }
        return message(name, line: String(decoding: data, as: UTF8.self), id: id)
    }

    /// - Parameter line: The data, without a line ending.
    static func message(_ name: String, line: String, id: UInt64? = nil) -> ByteBuffer {
        ByteBuffer(string: (id.map { "id: \($0)\n" } ?? "") + "event: \(name)\ndata: \(line)\n\n")
    }
}
