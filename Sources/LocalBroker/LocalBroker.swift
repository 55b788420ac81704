internal import ConcurrencyPrimitives
import Logging
import NIOCore
import NIOPosix
import Supervision

/// A private RabbitMQ broker: a separate node, as an operating system process owned by this one.
///
///     let broker = try await LocalBroker.start()
///     // ... amqp clients connect to broker.url ...
///     await broker.shutdown()
///
/// It listens on one port of 127.0.0.1, with ``Options/tls`` on a second, and on nothing else, has no contact with other nodes, and keeps
/// everything in one temporary folder. It is independent of a broker installed on the machine, except that it runs the same program.
///
/// ## Cleaning up
///
/// Nothing is left of it in any case: after ``shutdown()``, when the last reference to this actor is released, when the owning process
/// ends, crashes or is killed with `kill -9`. A small shell, a child of the owner, watches for that, kills the node and removes the folder.
///
/// ## Under a supervisor
///
/// It is a `Worker` whose `run()` lasts until ``shutdown()``, and throws when the node ends unexpectedly:
///
///     Child("broker", options: ChildOptions(shutdown: .timeout(.seconds(30))), onKill: { await $0.shutdown() }) { _ in
///         try await LocalBroker.start(.init(port: 5673))
///     }
///
/// The next incarnation is a new broker, without the data of the previous one.
///
/// ## Faults
///
/// Its purpose is to fail in tests and demonstrations: ``kill()``, ``pause()``, ``stop()``, ``wipe()``; and to come back with
/// ``startAgain()``, on the same port and with its durable data.
public actor LocalBroker: Worker {
    /// The options of a broker.
    public struct Options: Sendable {
        /// The time limit for a start. A node needs five seconds on an idle machine.
        public var startTimeout: Duration
        /// How long a graceful stop may take before the node is killed.
        public var stopTimeout: Duration
        /// The time limit for a request to the running broker, for example to list its queues.
        public var requestTimeout: Duration
        /// The port of 127.0.0.1 to listen on; `nil` for a free one. A fixed port stays the same for every incarnation under a supervisor.
        public var port: Int?
        /// The settings of a TLS listener; `nil` for none.
        public var tls: TLS?
        /// The names of RabbitMQ's own plugins to enable, for example `rabbitmq_auth_mechanism_ssl`.
        public var plugins: [String]
        /// Lines added to `rabbitmq.conf`.
        public var configuration: String
        /// The folder in which the broker's own folder is created.
        public var parentFolder: String
        /// Whether the folder, with its logs and data, is kept at the end.
        public var keepsFiles: Bool
        /// Logs starts and ends.
        public var logger: Logger?

        /// - Parameters:
        ///   - startTimeout: The time limit for a start.
        ///   - stopTimeout: How long a graceful stop may take before the node is killed.
        ///   - requestTimeout: The time limit for a request to the running broker.
        ///   - port: The port of 127.0.0.1 to listen on; `nil` for a free one.
        ///   - tls: The settings of a TLS listener; `nil` for none.
        ///   - plugins: The names of RabbitMQ's own plugins to enable.
        ///   - configuration: Lines added to `rabbitmq.conf`.
        ///   - parentFolder: The folder in which the broker's own folder is created; `nil` for the system's temporary folder.
        ///   - keepsFiles: Whether the folder, with its logs and data, is kept at the end.
        ///   - logger: Logs starts and ends.
        public init(
            startTimeout: Duration = .seconds(90),
            stopTimeout: Duration = .seconds(20),
            requestTimeout: Duration = .seconds(15),
            port: Int? = nil,
            tls: TLS? = nil,
            plugins: [String] = [],
            configuration: String = "",
            parentFolder: String? = nil,
            keepsFiles: Bool = false,
            logger: Logger? = nil
        ) {
            self.startTimeout = startTimeout
            self.stopTimeout = stopTimeout
            self.requestTimeout = requestTimeout
            self.port = port
            self.tls = tls
            self.plugins = plugins
            self.configuration = configuration
            self.parentFolder = parentFolder ?? temporaryFolder()
            self.keepsFiles = keepsFiles
            self.logger = logger
        }
    }

    private enum State {
        case stopped
        /// Starting or ending.
        case changing
        case running(Node)
        case shutDown
    }

    /// The TCP port of 127.0.0.1 that it listens on, which never changes.
    public nonisolated let port: Int
    /// The port of 127.0.0.1 for TLS; `nil` without ``Options/tls``.
    public nonisolated let tlsPort: Int?
    /// The folder with all of its files, including `log`.
    public nonisolated let folder: String

    private let options: Options
    private let installation: Installation
    private let nodeFolder: NodeFolder
    private let watchdog: CleanupWatchdog
    private var state: State = .stopped
    /// The outcome that `run()` waits for: success at the shutdown, failure at an unexpected end.
    private var outcome: EventLoopPromise<Void>
    private var hasEnded = false
    private var versions = NodeVersions(rabbitMQ: BrokerVersion(0), erlang: BrokerVersion(0))

    /// Starts a broker, and returns when it accepts connections.
    ///
    /// - Throws: `invalidOption`, `notInstalled`, `cannotPrepare`, `cannotSpawn`, `startFailed`, `startTimedOut`, `cancelled`. Nothing is
    ///   left of a broker that failed to start.
    public static func start(_ options: Options = .init()) async throws(LocalBrokerError) -> LocalBroker {
        try await start(options, distribution: nil)
    }

    /// Starts a single broker, or a node of a cluster.
    static func start(
        _ options: Options,
        distribution: Distribution?
    ) async throws(LocalBrokerError) -> LocalBroker {
        try LoopbackPort.check(options.port, option: "port")
        try LoopbackPort.check(options.tls?.port, option: "tls.port")
        try prepareEventLoops()
        let installation = try Installation.find()
        var attempt = 1
        while true {
            let port = if let port = options.port { port } else { try LoopbackPort.free() }
            let broker = try LocalBroker(options, installation, port: port, distribution: distribution)
            do {
                try await broker.startAgain()
                return broker
            } catch .portInUse(_)
                where options.port == nil && options.tls?.port == nil && distribution == nil && attempt < 5
            {
                // Another process took the port first.
                await broker.shutdown()
                attempt += 1
            } catch {
                await broker.shutdown()
                throw error
            }
        }
    }

    deinit { outcome.succeed() }

    private init(
        _ options: Options,
        _ installation: Installation,
        port: Int,
        distribution: Distribution?
    ) throws(LocalBrokerError) {
        self.options = options
        self.installation = installation
        self.port = port
        tlsPort =
            if let tls = options.tls {
                if let port = tls.port { port } else { try LoopbackPort.free(except: port) }
            } else {
                nil
            }
        self.nodeFolder = NodeFolder(in: options.parentFolder, distribution: distribution)
        self.folder = nodeFolder.path
        self.watchdog = try CleanupWatchdog(folder: nodeFolder.path, keepsFiles: options.keepsFiles)
        // From here on the actor completes it: a promise that is never completed traps.
        outcome = makeOutcome()
        let tlsConfiguration = tlsPort.flatMap { options.tls?.configuration(port: $0) } ?? ""
        try nodeFolder.prepare(
            port: port,
            plugins: options.plugins,
            additionalConfiguration: tlsConfiguration + "\n" + options.configuration
        )
    }

    /// `amqp://guest:guest@127.0.0.1:PORT`, the virtual host "/".
    public nonisolated var url: String { "amqp://guest:guest@127.0.0.1:\(port)" }

    /// The URL of one of its virtual hosts.
    public nonisolated func url(virtualHost: String) -> String {
        "\(url)/\(percentEncoded(virtualHost))"
    }

    /// The version of RabbitMQ that the node runs, or ran last.
    public var version: BrokerVersion { versions.rabbitMQ }

    /// The release of Erlang/OTP that the node runs, or ran last.
    package var erlangVersion: BrokerVersion { versions.erlang }

    /// The id of the node's operating system process; `nil` when it is not running.
    public var processID: Int32? { runningNode?.process.id }

    /// Whether the node's process exists, paused or not.
    public var isRunning: Bool { runningNode != nil }

    // MARK: Lifecycle

    /// Starts the node again after ``stop()``, ``kill()``, or an end of its own, on the same port and with its data. Returns when it
    /// accepts connections.
    ///
    /// - Throws: `alreadyRunning`, `shutDown`, `portInUse`, `cannotSpawn`, `startFailed`, `startTimedOut`, `cancelled`.
    public func startAgain() async throws(LocalBrokerError) {
        switch state {
        case .changing, .running: throw .alreadyRunning
        case .shutDown: throw .shutDown
        case .stopped: break
        }
        for port in [port] + (tlsPort.map { [$0] } ?? []) {
            guard try LoopbackPort.isFree(UInt16(port), reusing: true) else { throw .portInUse(port) }
        }
        state = .changing
        if hasEnded { outcome = makeOutcome() }
        hasEnded = false
        do throws(LocalBrokerError) {
            let node = try await Node(installation, folder: nodeFolder, watchdog: watchdog)
            versions = try await node.waitUntilReady(within: options.startTimeout, folder: nodeFolder)
            guard case .changing = state else {
                await node.kill()
                throw LocalBrokerError.shutDown
            }
            state = .running(node)
            node.process.ended.whenSuccess { [weak self] status in
                // Not awaited: it records the end, and restarts nothing.
                Task { await self?.ended(node, status) }
            }
            options.logger?.debug("broker started", metadata: ["port": "\(port)", "process": "\(node.process.id)"])
        } catch {
            if case .changing = state { state = .stopped }
            if case .startFailed(_, let log) = error, log.contains("eaddrinuse") { throw .portInUse(port) }
            throw error
        }
    }

    /// Kills the node by `kill -9`. Returns when it has ended; its data stays.
    ///
    /// - Throws: `notRunning`.
    public func kill() async throws(LocalBrokerError) {
        await end(try running()) { await $0.kill() }
    }

    /// Stops the node as an operator would: clients receive a connection.close (320), and durable data is written.
    ///
    /// A node that has not ended within the stop timeout is killed. Does nothing when it is not running.
    public func stop() async {
        guard let node = runningNode else { return }
        let timeout = options.stopTimeout
        await end(node) { await $0.stop(within: timeout) }
    }

    /// Stops the node if it is running, removes its data, and starts it again, empty, on the same port.
    ///
    /// - Throws: The errors of ``startAgain()``, and `cannotPrepare`.
    public func wipe() async throws(LocalBrokerError) {
        if let node = runningNode { await end(node) { await $0.kill() } }
        guard case .stopped = state else { return try await startAgain() }
        try nodeFolder.removeData()
        try await startAgain()
    }

    /// Freezes the node (SIGSTOP): its sockets stay open, but nothing answers on them. Requests to it time out. Returns when it has
    /// stopped.
    ///
    /// - Throws: `notRunning`.
    public func pause() async throws(LocalBrokerError) {
        let process = try running().process
        process.signal(pauseSignal)
        // The system stops it once each of its threads has been on a core. A cancelled task does not wait for that.
        while !process.isStoppedOrEnded, !Task.isCancelled { try? await Task.sleep(for: .milliseconds(1)) }
    }

    /// Resumes a paused node (SIGCONT).
    ///
    /// - Throws: `notRunning`.
    public func resume() throws(LocalBrokerError) {
        try running().process.signal(resumeSignal)
    }

    /// Ends the broker permanently and immediately, and removes all of its files. Call ``stop()`` first for an orderly end of its
    /// connections. Returns when nothing is left; may be called more than once.
    public func shutdown() async {
        let node = runningNode
        state = .shutDown
        outcome.succeed()
        if let node { await node.kill() }
        watchdog.release()
        do {
            _ = try await watchdog.ended.value(within: options.stopTimeout, orThrow: .notRunning, cancellable: false)
        } catch {
            options.logger?.warning("the broker's folder may not be removed yet", metadata: ["folder": "\(folder)"])
        }
    }

    private func end(_ node: Node, _ how: @Sendable (Node) async -> Void) async {
        state = .changing
        await how(node)
        if case .changing = state { state = .stopped }
    }

    private func ended(_ node: Node, _ status: ExitStatus) {
        guard case .running(let current) = state, current === node else { return }
        state = .stopped
        outcome.fail(LocalBrokerError.endedUnexpectedly(status))
        hasEnded = true
        options.logger?.warning("broker ended unexpectedly", metadata: ["port": "\(port)", "status": "\(status)"])
    }

    private var runningNode: Node? {
        if case .running(let node) = state { node } else { nil }
    }

    private func running() throws(LocalBrokerError) -> Node {
        switch state {
        case .running(let node): return node
        case .shutDown: throw .shutDown
        case .stopped, .changing: throw .notRunning
        }
    }

    // MARK: Worker

    /// Runs until ``shutdown()``; ``kill()`` and ``stop()`` do not end it.
    ///
    /// - Throws: `endedUnexpectedly` when the node ends without having been asked to; `CancellationError`.
    public func run() async throws {
        if case .shutDown = state { return }
        do {
            try await outcome.futureResult.value(within: .seconds(1 << 31), orThrow: .cancelled)
        } catch .cancelled {
            throw CancellationError()
        }
    }

    /// Stops the node in order, and shuts down.
    public func terminate(reason: ExitReason) async {
        await stop()
        await shutdown()
    }

    // MARK: Requests

    /// Sends a request to the running node.
    func request<Result: Decodable & Sendable>(
        _ command: String,
        _ arguments: [String: ControlArgument] = [:],
        as type: Result.Type = Result.self
    ) async throws(LocalBrokerError) -> Result {
        try await running().control.request(command, arguments, timeout: options.requestTimeout, as: type)
    }
}

/// Creates the event loops of the process, which it could not do later without.
func prepareEventLoops() throws(LocalBrokerError) {
    let error = FileDescriptors.prepare(eventLoops: NIOSingletons.groupLoopCountSuggestion) {
        _ = MultiThreadedEventLoopGroup.singleton
    }
    if let error { throw .cannotPrepare(path: "the event loops", reason: String(cString: strerror(error))) }
}

private func makeOutcome() -> EventLoopPromise<Void> {
    MultiThreadedEventLoopGroup.singleton.next().makePromise(of: Void.self)
}
