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

/// Shows trees, calls and connections live, in a browser.
///
///     let observer = Observer(trees: [app], callers: [rpc], receivers: [receiver], pools: [pool])
///     try await ServiceGroup(services: [app, observer], gracefulShutdownSignals: [.sigterm], logger: logger).run()
///
/// It is a `Service` with a small HTTP server, which listens on `http://127.0.0.1:9570` unless ``ObserverConfiguration`` says
/// otherwise. Where a server is there already, ``addRoutes(to:)`` adds the same to a router of Hummingbird's.
///
/// It is for looking. With `configuration.permission = .actions(token)` those who have the token may also act. Nothing that
/// messages carry is shown, no argument and no result.
///
/// With nobody looking it listens to failures only. A viewer reads snapshots, which are shared and made no more often than costs
/// a few hundredths of a core.
public final class Observer: Service, Sendable {
    /// How it serves.
    public let configuration: ObserverConfiguration
    let observation: Observation
    private let actions: Actions
    private let logger: Logger
    private let served = ServedAddress()

    /// Describes an observer; nothing runs before ``run()``.
    ///
    /// - Parameters:
    ///   - trees: What to show. The trees of callers, receivers and pools that run on their own are shown too.
    ///   - callers: Whose calls to show.
    ///   - receivers: Whose requests to show.
    ///   - pools: Whose connections to show.
    ///   - killMatrix: Those of the trees on which whoever may act may also play a kill matrix: every process is killed.
    ///   - configuration: Where to listen, who may open the page, and what they may do.
    ///   - logger: For the observer itself.
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

    /// Describes an observer with the default settings, and what those who look may do.
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
    /// - Throws: ``ObserverError`` before anything is served: a setting that cannot be right, or an address that is taken.
    public func run() async throws {
        // Whoever waits for the address waits no longer, however this ends.
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
                    // Longer than a viewer is ever without a message.
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
                // A process that this one starts would listen on, and keep the port from the next observer.
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

    /// Serves until it is to stop, in whichever way that is said.
    ///
    /// The server's task is never cancelled while it takes connections: one that was accepted and not yet handed on would be dropped,
    /// which NIO ends the OS process for. So a cancellation stops it as a graceful shutdown does, and what has not ended then, as
    /// the connection of a viewer that reads nothing, is cut off.
    private func serve(_ application: some Service) async throws {
        let group = ServiceGroup(configuration: .init(services: [application], logger: logger))
        let server = Task.detached { try await group.run() }
        let isStopping = Once()
        let stop = { @Sendable [observation] in
            guard isStopping.set() else { return }
            observation.broadcast.close()
            // Nobody waits for it: it ends the server, which is waited for.
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

    /// Where the page is served, waited for; `nil` when the task was cancelled before, or the observer ended.
    public func url() async -> String? { await served.value() }

    /// Adds the page and what it needs to a router, below the path of which the routes are relative: for a group, below that.
    ///
    /// The checks of hosts, origins and tokens come with them. Whatever else guards the router guards the page too. Put
    /// ``listener`` into the service group, so that failures are remembered while nobody looks.
    public func addRoutes(to router: some RouterMethods<some RequestContext>) {
        Routes(observation: observation, actions: actions, configuration: configuration).add(to: router)
    }

    /// Listens to the trees, without serving anything: for a router that has the routes, which somebody else runs.
    public var listener: any Service { Listener(observation: observation) }

    private struct Listener: Service {
        let observation: Observation

        func run() async throws {
            await cancelWhenGracefulShutdown { await observation.run() }
        }
    }
}
#endif
