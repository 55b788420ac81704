import NIOCore
import NIOPosix
public import Supervision

/// Several private RabbitMQ nodes that form a cluster, for tests with failing nodes.
///
///     let cluster = try await LocalBrokerCluster.start(nodes: 3)
///     let pool = AMQPPool(endpoints: try cluster.urls().map { try Endpoint(url: $0) })
///     ...
///     let home = try await cluster.place(of: "orders")
///     try await cluster.nodes[home?.leader ?? 0].kill()
///
/// Each node is a ``LocalBroker`` with all its operations, except ``LocalBroker/wipe()``: the others would not accept an empty node. They
/// communicate on ports of 127.0.0.1, without epmd, with a cookie created for this cluster. As with a single broker, nothing is left of
/// them, whatever happens to their owner.
///
/// A node takes about 3 s and 140 MB to start; the first starts alone, the others concurrently.
///
/// After all nodes were stopped, start them together with ``startAgain()``: a single node waits for the last one that stopped.
public actor LocalBrokerCluster: Worker {
    /// Where a queue is, according to the cluster, by the nodes' indices in ``nodes``.
    public struct QueuePlace: Sendable, Hashable {
        /// The node that serves the queue: a quorum queue's leader, a classic queue's home. `nil` when there is none at present. A classic
        /// queue keeps its home while that node is down.
        public var leader: Int?
        /// The nodes that have a replica.
        public var members: [Int]
        /// The replicas that are running.
        public var online: [Int]
    }

    /// The nodes, in the order of their first start.
    public nonisolated let nodes: [LocalBroker]

    private nonisolated let names: [String]

    /// Starts a cluster, and returns when all nodes have joined it.
    ///
    /// - Parameters:
    ///   - nodes: The number of nodes, at most 32; quorum queues need at least three to be useful.
    ///   - options: The options of each node. Its `port` is ignored: each node gets a free one.
    /// - Throws: The errors of ``LocalBroker/start(_:)``. Nothing is left of a cluster that failed to start.
    public static func start(
        nodes count: Int = 3,
        _ options: LocalBroker.Options = .init()
    ) async throws(LocalBrokerError) -> LocalBrokerCluster {
        guard count <= maximumNodes else {
            throw .invalidOption(name: "nodes", reason: "must be at most \(maximumNodes), but is \(count)")
        }
        var attempt = 1
        while true {
            do {
                return try await form(max(1, count), options)
            } catch .portInUse(_) where attempt < 5 {
                // Another process took one of the ports first.
                attempt += 1
            }
        }
    }

    /// More nodes need more memory than a machine has.
    private static let maximumNodes = 32

    private static func form(
        _ count: Int,
        _ options: LocalBroker.Options
    ) async throws(LocalBrokerError) -> LocalBrokerCluster {
        var options = options
        options.port = nil
        var ports: [Int] = []
        while ports.count < count {
            let port = try LoopbackPort.free()
            if !ports.contains(port) { ports.append(port) }
        }
        let cookie = String((0..<32).map { _ in "ABCDEFGHIJKLMNOPQRSTUVWXYZ".randomElement() ?? "A" })
        let distributions = ports.map { Distribution(port: $0, cookie: cookie, founder: ports[0]) }
        let founder = try await LocalBroker.start(options, distribution: distributions[0])
        let settings = options
        let others = await withTaskGroup(of: (Int, Result<LocalBroker, LocalBrokerError>).self) { group in
            for (index, distribution) in distributions.enumerated().dropFirst() {
                group.addTask { (index, await LocalBroker.tryToStart(settings, distribution: distribution)) }
            }
            return await group.reduce(into: [:]) { $0[$1.0] = $1.1 }
        }
        var nodes = [founder]
        var failure: LocalBrokerError?
        for index in 1..<max(1, count) {
            switch others[index] {
            case .success(let node): nodes.append(node)
            case .failure(let error): failure = failure ?? error
            case nil: break
            }
        }
        let cluster = LocalBrokerCluster(nodes: nodes, names: distributions.map(\.nodeName))
        if let failure {
            await cluster.shutdown()
            throw failure
        }
        do {
            try await cluster.waitUntilFormed(within: options.startTimeout)
        } catch {
            await cluster.shutdown()
            throw error
        }
        return cluster
    }

    private init(nodes: [LocalBroker], names: [String]) {
        self.nodes = nodes
        self.names = names
    }

    // MARK: Connecting

    /// The nodes' URLs.
    public nonisolated func urls(virtualHost: String = "/") -> [String] {
        nodes.map { virtualHost == "/" ? $0.url : $0.url(virtualHost: virtualHost) }
    }

    // MARK: Requests

    /// The indices of the running nodes, according to the first of them.
    public func running() async throws(LocalBrokerError) -> [Int] {
        indices(of: try await anyNode().request("running-nodes"))
    }

    /// Where a queue is; `nil` if it does not exist.
    public func place(of queue: String, virtualHost: String = "/") async throws(LocalBrokerError) -> QueuePlace? {
        struct Place: Decodable {
            var leader: String?
            var members: [String]
            var online: [String]
        }
        let arguments: [String: ControlArgument] = ["virtual-host": .text(virtualHost), "name": .text(queue)]
        let places = try await anyNode().request("queue-place", arguments, as: [Place].self)
        return places.first.map { place in
            QueuePlace(
                leader: place.leader.flatMap { names.firstIndex(of: $0) },
                members: indices(of: place.members),
                online: indices(of: place.online)
            )
        }
    }

    /// Transfers the leadership of a quorum queue to another node, as an operator does to rebalance. Returns when its replicas have agreed.
    ///
    /// - Parameters:
    ///   - queue: The queue's name.
    ///   - virtualHost: Its virtual host.
    ///   - node: The index of the node. A current leader keeps the leadership.
    /// - Throws: `requestFailed`, also when there is no such queue; `notRunning`, `requestTimedOut`.
    package func moveLeader(
        of queue: String,
        virtualHost: String = "/",
        to node: Int
    ) async throws(LocalBrokerError) {
        guard names.indices.contains(node) else {
            throw .invalidOption(name: "node", reason: "must be from 0 to \(names.count - 1), but is \(node)")
        }
        let arguments: [String: ControlArgument] = [
            "virtual-host": .text(virtualHost), "name": .text(queue), "node": .text(names[node]),
        ]
        _ = try await anyNode().request("move-leader", arguments, as: Bool.self)
    }

    /// Creates a virtual host, on all nodes, with all permissions for the user `guest`.
    public func createVirtualHost(_ name: String) async throws(LocalBrokerError) {
        try await anyNode().createVirtualHost(name)
    }

    /// Deletes a virtual host and everything in it.
    public func deleteVirtualHost(_ name: String) async throws(LocalBrokerError) {
        try await anyNode().deleteVirtualHost(name)
    }

    private func indices(of nodeNames: [String]) -> [Int] {
        nodeNames.compactMap { names.firstIndex(of: $0) }.sorted()
    }

    private func anyNode() async throws(LocalBrokerError) -> LocalBroker {
        for node in nodes where await node.isRunning { return node }
        throw .notRunning
    }

    private func waitUntilFormed(within timeout: Duration) async throws(LocalBrokerError) {
        let end = ContinuousClock.now + timeout
        for node in nodes {
            while try await node.request("running-nodes", as: [String].self).count < nodes.count {
                guard ContinuousClock.now < end else {
                    throw .startTimedOut(after: timeout, log: "the nodes do not know each other")
                }
                do {
                    try await Task.sleep(for: .milliseconds(50))
                } catch {
                    throw .cancelled
                }
            }
        }
    }

    // MARK: Lifecycle

    /// Starts all nodes that are not running, concurrently, because each may wait for another.
    ///
    /// - Throws: An error of ``LocalBroker/startAgain()`` of one of the nodes.
    public func startAgain() async throws(LocalBrokerError) {
        let failure = await withTaskGroup(of: LocalBrokerError?.self) { group -> LocalBrokerError? in
            for node in nodes {
                group.addTask {
                    guard await !node.isRunning else { return nil }
                    do throws(LocalBrokerError) {
                        try await node.startAgain()
                        return nil
                    } catch {
                        return error
                    }
                }
            }
            var failure: LocalBrokerError?
            for await error in group { failure = failure ?? error }
            return failure
        }
        if let failure { throw failure }
        try await waitUntilFormed(within: .seconds(60))
    }

    /// Ends all nodes permanently, and removes all of their files. May be called more than once.
    public func shutdown() async {
        await withTaskGroup(of: Void.self) { group in
            for node in nodes { group.addTask { await node.shutdown() } }
        }
    }

    /// Runs until ``shutdown()``; operations on single nodes do not end it.
    ///
    /// - Throws: `endedUnexpectedly` when a node ends without having been asked to; `CancellationError`.
    public func run() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for node in nodes { group.addTask { try await node.run() } }
            try await group.waitForAll()
        }
    }

    /// Shuts down.
    public func terminate(reason: ExitReason) async { await shutdown() }
}

extension LocalBroker {
    fileprivate static func tryToStart(
        _ options: Options,
        distribution: Distribution
    ) async -> Result<LocalBroker, LocalBrokerError> {
        do throws(LocalBrokerError) {
            return .success(try await start(options, distribution: distribution))
        } catch {
            return .failure(error)
        }
    }
}
