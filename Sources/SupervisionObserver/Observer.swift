#if Observer
public import AMQPPool
public import Hummingbird
import HummingbirdCore
public import Logging
import NIOCore
public import RPCCaller
public import RPCReceiver
public import ServiceLifecycle
public import Supervision

/// Shows trees, calls and connections live in a browser.
///
///     let observer = Observer(trees: [app], callers: [rpc], receivers: [receiver], pools: [pool])
///     try await ServiceGroup(services: [app, observer], gracefulShutdownSignals: [.sigterm], logger: logger).run()
///
/// It is a `Service` with a small HTTP server, which listens on `http://127.0.0.1:9570` unless ``ObserverConfiguration`` says otherwise. To
/// use an existing Hummingbird server, add the routes to its router with ``addRoutes(to:)``.
///
/// It is read-only by default. With `configuration.permission = .actions(token)` viewers with the token may also act. Contents of messages,
/// arguments and results are never shown.
///
/// Without viewers it receives failure events only. Viewers share snapshots, which are created only so often that they cost a few
/// hundredths of a core.
public final class Observer: Service, Sendable {
    /// The settings of the observer.
    public let configuration: ObserverConfiguration
    let observation: Observation
    private let actions: Actions
    private let logger: Logger
    private let served = ServedAddress()

    /// Creates an observer; nothing runs before ``run()``.
    ///
    /// - Parameters:
    ///   - trees: The trees to show. Trees of callers, receivers and pools that run by themselves are shown too.
    ///   - callers: The callers whose calls to show.
    ///   - receivers: The receivers whose requests to show.
    ///   - pools: The pools whose connections to show.
    ///   - killMatrix: The trees on which viewers with permission may run a kill matrix, which kills every process.
    ///   - configuration: The address, who may open the page, and what viewers may do.
    ///   - logger: The observer's own logger.
    public init(
        trees: [Supervisor] = [],
        callers: [RPCCaller] = [],
        receivers: [RPCReceiver] = [],
        pools: [AMQPPool] = [],
        killMatrix: [Supervisor] = [],
        configuration: ObserverConfiguration = ObserverConfiguration(),
        logger: Logger? = nil
    ) {
        self.configuration = configuration
        self.logger = logger ?? Logger(label: "supervision.observer")
        var all: [Supervisor] = []
        for supervisor in trees + killMatrix + callers.map(\.supervisor) + receivers.map(\.supervisor)
            + pools.map(\.supervisor) where !all.contains(where: { $0 === supervisor })
        {
            all.append(supervisor)
        }
        observation = Observation(
            trees: all.map { supervisor in
                Observation.Tree(
                    name: supervisor.name,
                    supervisor: supervisor,
                    isNamed: (trees + killMatrix).contains { $0 === supervisor },
                    mayPlayKillMatrix: killMatrix.contains { $0 === supervisor }
                )
            },
            callers: callers,
            receivers: receivers,
            pools: pools,
            shown: configuration.shownErrors,
            permission: configuration.permission,
            maximumViewers: configuration.maximumViewers,
            statisticsGrace: configuration.statisticsGrace,
            logger: self.logger
        )
        actions = Actions(observation)
    }

    /// Creates an observer with the default settings and this permission.
    public convenience init(
        trees: [Supervisor] = [],
        callers: [RPCCaller] = [],
        receivers: [RPCReceiver] = [],
        pools: [AMQPPool] = [],
        killMatrix: [Supervisor] = [],
        allowing permission: ObserverPermission,
        logger: Logger? = nil
    ) {
        var configuration = ObserverConfiguration()
        configuration.permission = permission
        self.init(
            trees: trees,
            callers: callers,
            receivers: receivers,
            pools: pools,
            killMatrix: killMatrix,
            configuration: configuration,
            logger: logger
        )
    }

    /// Serves the page until a graceful shutdown or the cancellation of the task.
    ///
    /// - Throws: ``ObserverError`` before anything is served: an invalid setting, or an address that is in use.
    public func run() async throws {
        // Releases those who wait for the address, however this ends.
        defer {
            observation.broadcast.close()
            served.end()
        }
        if let problem = configuration.problem { throw ObserverError.invalidConfiguration(problem) }
        observation.subscribe()
        let router = Router(context: BasicRequestContext.self)
        addRoutes(to: router)
        let application = Application(
            router: router,
            server: .http1(
                configuration: .init(
                    // Longer than the interval of messages to a viewer.
                    idleTimeout: .seconds(60),
                    httpDecoderConfiguration: .init(
                        maxHeaderFieldSize: 16 * 1024,
                        maxHeaderListSize: 32 * 1024,
                        maxHeaderFieldCount: 100
                    )
                )
            ),
            configuration: .init(
                address: .hostname(configuration.host, port: configuration.port),
                availableConnectionsDelegate: MaximumAvailableConnections(configuration.maximumConnections)
            ),
            onServerRunning: { [self] channel in
                // A child OS process that inherited the socket would keep the port from the next observer.
                try? await channel.eventLoop.submit { try channel.closeOnExec() }.get()
                serving(channel.localAddress)
            },
            logger: logger
        )
        do {
            try await withThrowingTaskGroup(of: Bool.self) { group in
                group.addTask { [observation] in
                    await observation.run()
                    return false
                }
                group.addTask { [actions] in
                    await actions.run()
                    return false
                }
                group.addTask { [self] in
                    try await serve(application)
                    return true
                }
                defer { group.cancelAll() }
                while let isServer = try await group.next(), !isServer {}
            }
        } catch let error as IOError {
            throw ObserverError.cannotListen(
                address: "\(configuration.host):\(configuration.port)",
                reason: DisplayText.line(error.description)
            )
        }
    }

    /// Serves until it is stopped in any way.
    ///
    /// The server's task is never cancelled while it accepts connections: NIO traps when an accepted connection is dropped before it has
    /// been passed on. A cancellation therefore stops the server like a graceful shutdown, and connections that have not ended then, such
    /// as that of a viewer that does not read, are closed.
    private func serve(_ application: some Service) async throws {
        let group = ServiceGroup(configuration: .init(services: [application], logger: logger))
        let server = Task.detached { try await group.run() }
        let isStopping = Once()
        let stop = { @Sendable [observation] in
            guard isStopping.set() else { return }
            observation.broadcast.close()
            // Not awaited: it ends the server, which is awaited.
            Task.detached {
                await group.triggerGracefulShutdown()
                try? await Task.sleep(for: .seconds(1))
                server.cancel()
            }
        }
        try await withTaskCancellationHandler {
            try await withGracefulShutdownHandler {
                try await server.value
            } onGracefulShutdown: {
                stop()
            }
        } onCancel: {
            stop()
        }
    }

    private func serving(_ address: SocketAddress?) {
        guard let address, let port = address.port else { return }
        let host = address.ipAddress ?? configuration.host
        let url = host.contains(":") ? "http://[\(host)]:\(port)/" : "http://\(host):\(port)/"
        logger.notice("the observer is served", metadata: ["url": "\(url)"])
        served.set(url)
    }

    /// Waits for the URL of the page; `nil` when the task was cancelled first, or the observer has ended.
    public func url() async -> String? { await served.value() }

    /// Adds the page and its resources to a router, with routes relative to the router's path; for a group, relative to the group's.
    ///
    /// The checks of hosts, origins and tokens are included. Other middleware of the router applies to the page too. Add ``listener`` to
    /// the service group, so that failures are recorded while nobody watches.
    public func addRoutes(to router: some RouterMethods<some RequestContext>) {
        Routes(observation: observation, actions: actions, configuration: configuration).add(to: router)
    }

    /// Observes the trees without serving anything: for a router with the routes that is served elsewhere.
    public var listener: any Service { Listener(observation: observation) }

    private struct Listener: Service {
        let observation: Observation

        func run() async throws {
            await cancelWhenGracefulShutdown { await observation.run() }
        }
    }
}
#endif
