internal import ConcurrencyPrimitives
import Logging
import NIOCore
import NIOPosix
import Supervision

/// A private RabbitMQ broker: a node of its own, as an operating system process of ours.
///
///     let broker = try await LocalBroker.start()
///     // ... amqp clients connect to broker.url ...
///     await broker.shutdown()
///
/// It listens on one port of 127.0.0.1, with ``Options/tls`` on a second, and nowhere else, knows no other node, and keeps everything in one temporary
/// folder. It takes no notice of a broker that is installed on the machine, except that it runs the same program.
///
/// ## What remains of it
///
/// Nothing, in every case: after ``shutdown()``, when the last reference to this actor is gone, when the process that
/// owns it ends, crashes or is killed with `kill -9`. A small shell, a child of the owner, watches for that, kills the
/// node and removes the folder.
///
/// ## Under a supervisor
///
/// It is a `Worker` whose `run()` lasts until ``shutdown()``, and throws when the node ends unexpectedly:
///
///     Child("broker", options: ChildOptions(shutdown: .timeout(.seconds(30))), onKill: { await $0.shutdown() }) { _ in
///         try await LocalBroker.start(.init(port: 5673))
///     }
///
/// The next incarnation is a new broker, without the data of the one before.
///
/// ## To be killed
///
/// It exists so that tests and demonstrations can take it away: ``kill()``, ``pause()``, ``stop()``, ``wipe()``; and then
/// give it back with ``startAgain()``, on the same port and with what was durable.
public actor LocalBroker: Worker {
    /// How a broker is run.
    public struct Options: Sendable {
        /// How long a start may take before it fails. A node needs five seconds on an idle machine.
        public var startTimeout: Duration
        /// How long a graceful stop may take before the node is killed.
        public var stopTimeout: Duration
        /// How long a request to the running broker may take, as listing its queues.
        public var requestTimeout: Duration
        /// The port of 127.0.0.1 to listen on; a free one if nil. One that is given is the same for every incarnation
        /// under a supervisor.
        public var port: Int?
        /// Listen for encrypted connections too; nil does not.
        public var tls: TLS?
        /// The names of RabbitMQ's own plugins to enable, as `rabbitmq_auth_mechanism_ssl`.
        public var plugins: [String]
        /// Lines added to `rabbitmq.conf`.
        public var configuration: String
        /// The folder the broker's own folder is made in.
        public var parentFolder: String
        /// Leave the folder, with its logs and data, where it is at the end.
        public var keepsFiles: Bool
        /// Tells of starts and ends.
        public var logger: Logger?

        /// - Parameters:
        ///   - startTimeout: how long a start may take before it fails.
        ///   - stopTimeout: how long a graceful stop may take before the node is killed.
        ///   - requestTimeout: how long a request to the running broker may take.
        ///   - port: the port of 127.0.0.1 to listen on; a free one if nil.
        ///   - tls: listen for encrypted connections too; nil does not.
        ///   - plugins: the names of RabbitMQ's own plugins to enable.
        ///   - configuration: lines added to `rabbitmq.conf`.
        ///   - parentFolder: the folder the broker's own folder is made in; the system's temporary folder if nil.
        ///   - keepsFiles: leave the folder, with its logs and data, where it is at the end.
        ///   - logger: tells of starts and ends.
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
        /// Being started, or being ended.
        case changing
        case running(Node)
        case shutDown
    }

    /// The TCP port of 127.0.0.1 it listens on. It keeps it for life.
    public nonisolated let port: Int
    /// The port of 127.0.0.1 it listens on for encrypted connections; nil without ``Options/tls``.
    public nonisolated let tlsPort: Int?
    /// The folder that holds all of its files, `log` among them.
    public nonisolated let folder: String

    private let options: Options
    private let installation: Installation
    private let nodeFolder: NodeFolder
    private let watchdog: CleanupWatchdog
    private var state: State = .stopped
    /// What `run()` waits for: succeeds at the shutdown, fails at an unexpected end.
    private var outcome: EventLoopPromise<Void>
    private var hasEnded = false
    private var versions = NodeVersions(rabbitMQ: BrokerVersion(0), erlang: BrokerVersion(0))

    /// Starts a broker, and returns when it accepts connections.
    ///
    /// - Throws: `invalidOption`, `notInstalled`, `cannotPrepare`, `cannotSpawn`, `startFailed`, `startTimedOut`, `cancelled`. Nothing
    ///   remains of a broker that could not be started.
    public static func start(_ options: Options = .init()) async throws(LocalBrokerError) -> LocalBroker {
        try await start(options, distribution: nil)
    }

    /// Starts a broker that is alone, or a node of a cluster.
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
                // Another process was quicker to take the port.
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
        // From here on the end of this actor fulfils it: one that nobody fulfils ends the process.
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

    /// The version of RabbitMQ that the node runs, or ran when it was started last.
    public var version: BrokerVersion { versions.rabbitMQ }

    /// The release of Erlang/OTP that the node runs, or ran when it was started last.
    public var erlangVersion: BrokerVersion { versions.erlang }

    /// The number of the node's operating system process; nil when it is not running.
    public var processID: Int32? { runningNode?.process.id }

    /// Whether the node's process exists, paused or not.
    public var isRunning: Bool { runningNode != nil }

    // MARK: Life and death

    /// Starts the node again after ``stop()``, ``kill()``, or an end of its own, on the same port and with the data it
    /// left. Returns when it accepts connections.
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
                // Nobody waits for it: it takes note of the end, and restarts nothing.
                Task { await self?.ended(node, status) }
            }
            options.logger?.debug("broker started", metadata: ["port": "\(port)", "process": "\(node.process.id)"])
        } catch {
            if case .changing = state { state = .stopped }
            if case .startFailed(_, let log) = error, log.contains("eaddrinuse") { throw .portInUse(port) }
            throw error
        }
    }

    /// `kill -9` of the node. Returns when it is gone; its data stays.
    ///
    /// - Throws: `notRunning`.
    public func kill() async throws(LocalBrokerError) {
        await end(try running()) { await $0.kill() }
    }

    /// Ends the node as an operator would: clients are told (connection.close, 320), durable data is written.
    ///
    /// A node that has not ended within the stop timeout is killed. Does nothing when it is not running.
    public func stop() async {
        guard let node = runningNode else { return }
        let timeout = options.stopTimeout
        await end(node) { await $0.stop(within: timeout) }
    }

    /// Stops the node if it is running, removes all it stored, and starts it again, empty, on the same port.
    ///
    /// - Throws: what ``startAgain()`` throws, and `cannotPrepare`.
    public func wipe() async throws(LocalBrokerError) {
        if let node = runningNode { await end(node) { await $0.kill() } }
        guard case .stopped = state else { return try await startAgain() }
        try nodeFolder.removeData()
        try await startAgain()
    }

    /// Freezes the node (SIGSTOP): its sockets stay open, and nothing answers on them. Requests to it time out. Returns when
    /// it has stopped.
    ///
    /// - Throws: `notRunning`.
    public func pause() async throws(LocalBrokerError) {
        let process = try running().process
        process.signal(pauseSignal)
        // The system stops it as soon as each of its threads has been on a core. When the task is cancelled, that is not
        // waited for.
        while !process.isStoppedOrEnded, !Task.isCancelled { try? await Task.sleep(for: .milliseconds(1)) }
    }

    /// Lets a paused node go on (SIGCONT).
    ///
    /// - Throws: `notRunning`.
    public func resume() throws(LocalBrokerError) {
        try running().process.signal(resumeSignal)
    }

    /// Ends the broker for good, at once, and removes all of its files. For a node that should say goodbye to its
    /// clients, call ``stop()`` before. Returns when nothing is left; may be called more than once.
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

    /// Lasts until ``shutdown()``; what is done to the node with ``kill()`` or ``stop()`` does not end it.
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

    /// Says goodbye to the clients, and shuts down.
    public func terminate(reason: ExitReason) async {
        await stop()
        await shutdown()
    }

    // MARK: Questions

    /// Asks the running node.
    func request<Result: Decodable & Sendable>(
        _ command: String,
        _ arguments: [String: ControlArgument] = [:],
        as type: Result.Type = Result.self
    ) async throws(LocalBrokerError) -> Result {
        try await running().control.request(command, arguments, timeout: options.requestTimeout, as: type)
    }
}

/// Makes the event loops of the process, which it could not do without later.
func prepareEventLoops() throws(LocalBrokerError) {
    let error = FileDescriptors.prepare(eventLoops: NIOSingletons.groupLoopCountSuggestion) {
        _ = MultiThreadedEventLoopGroup.singleton
    }
    if let error { throw .cannotPrepare(path: "the event loops", reason: String(cString: strerror(error))) }
}

private func makeOutcome() -> EventLoopPromise<Void> {
    MultiThreadedEventLoopGroup.singleton.next().makePromise(of: Void.self)
}
