import ConcurrencyPrimitives
import NIOCore
import Supervision

#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// All viewers, and the messages for them. Each has a bounded queue: a slow viewer loses events instead of using memory.
final class ViewerBroadcast: Sendable {
    static let queueLimit = 256

    private struct State {
        var viewers: [UInt64: ViewerQueue<ByteBuffer>] = [:]
        var lastViewer: UInt64 = 0
        var isClosed = false
        var listeners: [Int: SupervisionEvents] = [:]
        var interest = EventInterest.failures
    }

    private let maximumViewers: Int
    private let state = Monitor(State())

    init(maximumViewers: Int) {
        self.maximumViewers = maximumViewers
    }

    var count: Int { state.read { $0.viewers.count } }

    /// The number of messages dropped for the most loaded viewer.
    var dropped: Int { state.read { $0.viewers.values.map(\.dropped).max() ?? 0 } }

    /// The number of messages that wait for the most loaded viewer.
    var waiting: Int { state.read { $0.viewers.values.map(\.count).max() ?? 0 } }

    // MARK: Listening

    func addListener(_ events: SupervisionEvents, _ tree: Int) {
        state.change { state in
            state.listeners[tree] = events
            events.interest = state.interest
        }
    }

    func removeListener(_ tree: Int) {
        state.change { _ = $0.listeners.removeValue(forKey: tree) }
    }

    func listen(to interest: EventInterest) {
        state.change { state in
            state.interest = interest
            for events in state.listeners.values { events.interest = interest }
        }
    }

    // MARK: Viewers

    /// `nil` when the limit of viewers is reached, or no more are admitted.
    func addViewer() -> UInt64? {
        state.change { state -> UInt64? in
            guard !state.isClosed, state.viewers.count < maximumViewers else { return nil }
            state.lastViewer += 1
            state.viewers[state.lastViewer] = ViewerQueue(limit: Self.queueLimit)
            return state.lastViewer
        }
    }

    func removeViewer(_ id: UInt64) {
        state.change { _ = $0.viewers.removeValue(forKey: id) }
    }

    /// Admits no more viewers, and disconnects all.
    func close() {
        state.change { state in
            state.isClosed = true
            state.viewers = [:]
        }
    }

    /// Waits for messages for a viewer, and returns all of them. `nil`: the viewer is to be disconnected.
    func next(_ id: UInt64) async -> [ByteBuffer]? {
        let next = try? await state.wait { state -> Next? in
            guard let isEmpty = state.viewers[id]?.isEmpty else { return .leaves }
            guard !isEmpty, let (messages, dropped) = state.viewers[id]?.takeAll() else { return nil }
            return .messages(messages, dropped: dropped)
        }
        switch next {
        case .messages(let messages, let dropped)? where !Task.isCancelled:
            guard let dropped else { return messages }
            return [Self.message("dropped", line: "\(dropped)")] + messages
        case .messages?, .leaves?, nil: return nil
        }
    }

    private enum Next: Sendable {
        case messages([ByteBuffer], dropped: Int?)
        case leaves
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
        state.change { state in
            for id in state.viewers.keys {
                if let index = state.viewers.index(forKey: id) { change(&state.viewers.values[index]) }
            }
        }
    }

    /// Waits until there is a viewer. `false` when the task was cancelled, or no more are admitted.
    func waitForViewers() async -> Bool {
        let isLookedAt = try? await state.wait { state -> Bool? in
            if !state.viewers.isEmpty { return true }
            return state.isClosed ? false : nil
        }
        return isLookedAt == true && !Task.isCancelled
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
