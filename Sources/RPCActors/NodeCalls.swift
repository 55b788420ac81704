import ConcurrencyPrimitives
import RPCCaller
import RPCWire
import Supervision

/// The calls that wait for answers of nodes, and the nodes whose queues have to be checked.
///
/// A request for a lost node is returned, because the broker keeps it only briefly before it sends it back. But it is lost if the node's
/// queue is deleted with the request in it: the queue expires some time after the node was lost, and anybody may delete it. The queue of a
/// call that has waited for long is therefore checked, and if it does not exist the call ends.
struct NodeCallTable: Sendable {
    typealias Instant = ContinuousClock.Instant

    private struct Call: Sendable {
        let node: String
        let begun: Instant
    }

    private var calls: [UInt64: Call] = [:]
    private var last: UInt64 = 0

    var isEmpty: Bool { calls.isEmpty }

    mutating func begin(_ node: String, at now: Instant) -> UInt64 {
        last &+= 1
        calls[last] = Call(node: node, begun: now)
        return last
    }

    mutating func end(_ id: UInt64) { calls[id] = nil }

    /// The nodes with a call that has waited since this instant.
    func nodes(waitedForSince limit: Instant) -> Set<String> {
        Set(calls.values.lazy.filter { $0.begun <= limit }.map(\.node))
    }

    /// The node's queue did not exist when it was checked: calls begun before that have nothing to wait for.
    func abandoned(_ node: String, askedAt asked: Instant) -> [UInt64] {
        calls.compactMap { $0.value.node == node && $0.value.begun < asked ? $0.key : nil }
    }
}

/// Ends calls to nodes whose queues are gone.
final class NodeCalls: Sendable {
    typealias Outcome = Result<RPCReply, RPCError>

    private struct State {
        var table = NodeCallTable()
        var tasks: [UInt64: Task<Outcome, Never>] = [:]
        var abandoned: Set<UInt64> = []
    }

    /// The maximum number of concurrent checks.
    private static let maximumQuestions = 16

    private let state = Monitor(State())
    private let interval: Duration
    private let isGone: @Sendable (String) async -> Bool

    /// - Parameters:
    ///   - interval: How long a call waits before its node is checked, and the time between checks.
    ///   - isGone: Whether the node has no queue any more.
    init(every interval: Duration, isGone: @escaping @Sendable (String) async -> Bool) {
        self.interval = interval
        self.isGone = isGone
    }

    /// Makes a call to a node. `nil`: its queue is gone.
    func run(_ node: String, _ call: @escaping @Sendable () async -> Outcome) async -> Outcome? {
        let task = Task { await call() }
        let id = state.change { state in
            let id = state.table.begin(node, at: .now)
            state.tasks[id] = task
            return id
        }
        let outcome = await withTaskCancellationHandler {
            await task.value
        } onCancel: {
            task.cancel()
        }
        let isAbandoned = state.change { state in
            state.table.end(id)
            state.tasks[id] = nil
            return state.abandoned.remove(id) != nil
        }
        if isAbandoned, case .failure(.cancelled) = outcome { return nil }
        return outcome
    }

    /// Checks the nodes of waiting calls until it is cancelled. Does nothing while no call waits.
    func watch() async throws {
        while true {
            try await state.wait { $0.table.isEmpty ? nil : () }
            try await Task.sleep(for: interval)
            let limit = ContinuousClock.now - interval
            await ask(state.read { $0.table.nodes(waitedForSince: limit) })
        }
    }

    private func ask(_ nodes: Set<String>) async {
        await withTaskGroup(of: Void.self) { group in
            for (index, node) in nodes.enumerated() {
                if index >= Self.maximumQuestions { await group.next() }
                group.addTask { [self] in
                    let asked = ContinuousClock.now
                    guard await isGone(node) else { return }
                    let tasks = state.change { state in
                        let ids = state.table.abandoned(node, askedAt: asked)
                        state.abandoned.formUnion(ids)
                        return ids.compactMap { state.tasks[$0] }
                    }
                    for task in tasks { task.cancel() }
                }
            }
        }
    }
}

/// Checks calls to nodes for as long as the system runs.
actor NodeCallsProcess: Worker {
    private let calls: NodeCalls

    init(_ calls: NodeCalls) {
        self.calls = calls
    }

    func run() async throws { try await calls.watch() }
}
