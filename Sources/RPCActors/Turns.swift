import ConcurrencyPrimitives
import Synchronization

/// The turns of requests for the same virtual actor: one at a time, in order of delivery.
///
/// A turn is taken on delivery, before anything runs, so that the order is the broker's.
struct TurnTable<Ticket: Hashable & Sendable>: Sendable {
    private var lines: [String: [Ticket]] = [:]
    private var names: [Ticket: String] = [:]

    /// Takes a turn.
    mutating func take(_ ticket: Ticket, for name: String) {
        guard names.updateValue(name, forKey: ticket) == nil else { return }
        lines[name, default: []].append(ticket)
    }

    /// Whether it is this ticket's turn. A ticket that was never taken, or has ended, waits for nothing.
    func isFirst(_ ticket: Ticket) -> Bool {
        names[ticket].map { lines[$0]?.first == ticket } ?? true
    }

    /// The turn has ended, or was given up. Returns the ticket whose turn it is now.
    mutating func end(_ ticket: Ticket) -> Ticket? {
        guard let name = names.removeValue(forKey: ticket), var line = lines[name] else { return nil }
        let wasFirst = line.first == ticket
        line.removeAll { $0 == ticket }
        lines[name] = line.isEmpty ? nil : line
        return wasFirst ? line.first : nil
    }

    /// The number of tickets that have a turn or wait for one.
    var count: Int { names.count }

    /// Whether a ticket has or waits for a turn at this name.
    func isBusy(_ name: String) -> Bool { lines[name] != nil }
}

/// Lets requests wait for their turns.
final class Turns<Ticket: Hashable & Sendable>: Sendable {
    private struct State {
        var table = TurnTable<Ticket>()
        var waiters: [Ticket: OneShot<Void>] = [:]
    }

    private let state = Mutex(State())

    func take(_ ticket: Ticket, for name: String) {
        state.withLock { $0.table.take(ticket, for: name) }
    }

    /// Waits for the turn, until the task is cancelled, as at the request's deadline. `false`: it was cancelled.
    func wait(_ ticket: Ticket) async -> Bool {
        let turn = state.withLock { state -> OneShot<Void>? in
            if state.table.isFirst(ticket) { return nil }
            let turn = OneShot<Void>()
            state.waiters[ticket] = turn
            return turn
        }
        guard let turn else { return true }
        if await turn.wait() != nil { return true }
        state.withLock { _ = $0.waiters.removeValue(forKey: ticket) }
        return false
    }

    func end(_ ticket: Ticket) {
        let next = state.withLock { state -> OneShot<Void>? in
            guard let next = state.table.end(ticket) else { return nil }
            return state.waiters.removeValue(forKey: next)
        }
        next?.set(())
    }

    func isBusy(_ name: String) -> Bool { state.withLock { $0.table.isBusy(name) } }
}
