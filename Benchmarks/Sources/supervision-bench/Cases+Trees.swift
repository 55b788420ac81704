import BenchmarkSupport
import Supervision

extension Cases {
    /// A tree in which each supervisor has four children, actors at the bottom: 21,845 nodes at depth 7.
    static func tree(_ kind: Kind, depth: Int) async throws -> (nodes: Int, Values) {
        let arrivals = Arrivals()
        let (nodes, leaves) = size(depth)
        let begin = ContinuousClock.now
        let root = Supervisor("bench", strategy: .oneForAll, intensity: manyRestarts, logger: silent) {
            (1...4).map { node($0, kind, depth - 1, arrivals) }
        }
        try await root.start()
        await arrivals.total(leaves)
        let start = ContinuousClock.now - begin
        try await Task.sleep(for: .milliseconds(200))
        // All of it is stopped and started again, because the first part was killed.
        let first = try root.reference().whichChildren().last?.pid
        let beginRebuild = ContinuousClock.now
        _ = await arrivals.next(leaves) { first?.kill() }
        let rebuild = ContinuousClock.now - beginRebuild
        try await Task.sleep(for: .milliseconds(200))
        let beginStop = ContinuousClock.now
        await root.stop()
        let stop = ContinuousClock.now - beginStop
        return (
            nodes,
            [
                ("start", start.inSeconds * 1000), ("stop", stop.inSeconds * 1000),
                ("rebuild", rebuild.inSeconds * 1000),
            ]
        )
    }

    private static func node(_ number: Int, _ kind: Kind, _ depth: Int, _ arrivals: Arrivals) -> Child {
        guard depth > 0 else { return kind.child("\(number)", arrivals) }
        let supervisor = Supervisor("\(number)", intensity: manyRestarts) {
            (1...4).map { node($0, kind, depth - 1, arrivals) }
        }
        return ChildrenBuilder.buildExpression(supervisor)[0]
    }

    private static func size(_ depth: Int) -> (nodes: Int, leaves: Int) {
        guard depth > 0 else { return (1, 1) }
        let (nodes, leaves) = size(depth - 1)
        return (1 + 4 * nodes, 4 * leaves)
    }
}
