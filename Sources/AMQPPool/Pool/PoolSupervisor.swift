internal import ConcurrencyPrimitives
package import Supervision

extension Supervisor {
    /// The subtree of a pool:
    ///
    ///     pool                          one for one
    ///     |- connection-supervisor-1    rest for one
    ///     |  |- connection              comes up at once, connects in the background
    ///     |  `- channel-supervisor      one for one
    ///     |     |- channel-1            opens, runs `onOpen`, registers itself
    ///     |     `- channel-n
    ///     `- connection-supervisor-m
    ///
    /// What broker and network do never climbs: connections and channels are opened again after a backoff, and the supervisors
    /// of both cool down instead of giving up. Except for one thing: a topology that the broker refuses (403, 406) when a
    /// channel is set up for the first time is a mistake in the configuration. Then the supervisor above the pool is told to exit with
    /// `.shutdown(cause:)` and the ``AMQPError`` in it.
    ///
    /// - Parameters:
    ///   - id: the name of the supervisor.
    ///   - configuration: how many of what, and where to.
    ///   - source: whether the connections are opened here or leased from another pool of this process.
    ///   - registry: finds the registry that the channels register in, for each incarnation.
    ///   - onOpen: sets up each channel that was opened, before it is registered: declares, consumes. The channel is in confirm
    ///     mode. If it throws, the channel is opened again after a backoff.
    ///   - onStop: called before a channel that is open is closed because its process is stopped: time to finish work, bounded by
    ///     ``PoolConfiguration/channelShutdown``. Not called for one that is killed or lost.
    ///   - onClose: called on the event loop when a channel that was opened is over, for whatever reason. Must not block.
    package static func pool(
        _ id: String = "pool",
        configuration: PoolConfiguration,
        source: ConnectionSource = .own(),
        confirms: Bool = true,
        registry: @escaping @Sendable (ChildContext) throws -> ChannelRegistry,
        onOpen: @escaping @Sendable (AMQPChannel, ChildContext) async throws -> Void,
        onStop: (@Sendable (AMQPChannel) async -> Void)? = nil,
        onClose: (@Sendable (AMQPChannel) -> Void)? = nil
    ) -> Supervisor {
        let hooks = ChannelProcess.Hooks(confirms: confirms, onOpen: onOpen, onStop: onStop, onClose: onClose)
        return Supervisor(id, strategy: .oneForOne) {
            for number in 1...configuration.allConnectionCount {
                connection(
                    number,
                    configuration: configuration,
                    source: source,
                    registry: registry,
                    hooks: hooks
                )
            }
        }
    }

    /// What a supervisor waits longer than closing may take. Closing ends by itself in its time, or a second later when the event loop is
    /// stuck; this is for a machine that is so busy that what is due does not run.
    private static let closeMargin = Duration.seconds(3)

    private static func connection(
        _ number: Int,
        configuration: PoolConfiguration,
        source: ConnectionSource,
        registry: @escaping @Sendable (ChildContext) throws -> ChannelRegistry,
        hooks: ChannelProcess.Hooks
    ) -> Supervisor {
        let rotation = EndpointRotation(
            configuration.endpoints,
            offset: number - 1,
            shuffles: configuration.shufflesEndpoints
        )
        let settings = configuration.connection(number: number)
        return Supervisor(
            "connection-supervisor-\(number)",
            strategy: .restForOne,
            whenExceeded: .cooldown(configuration.cooldown)
        ) {
            Child(
                "connection",
                options: ChildOptions(
                    shutdown: .timeout(settings.closeTimeout.bounded + closeMargin),
                    backoff: configuration.backoff,
                    killTimeout: configuration.killTimeout.bounded + closeMargin
                ),
                onKill: { (process: ConnectionProcess) in await process.killed() },
                start: { context -> ConnectionProcess? in
                    try configuration.check()
                    guard let rotation else { throw AMQPError.invalidArgument("the pool has no endpoints") }
                    return ConnectionProcess(
                        context,
                        number,
                        source: source,
                        rotation: rotation,
                        configuration: settings,
                        backoff: configuration.backoff,
                        bootPolicy: configuration.boot,
                        endpoints: configuration.endpoints,
                        killTimeout: configuration.killTimeout.bounded,
                        registry: try registry(context),
                        logger: context.logger
                    )
                }
            )
            // A connection that is lost is told by the pool.
            .withoutLogging { reason in (reason.error as? AMQPError)?.isEndOfConnection ?? false }
            Supervisor(
                "channel-supervisor",
                strategy: .oneForOne,
                whenExceeded: .cooldown(configuration.cooldown)
            ) {
                for number in 1...configuration.channelCount {
                    channel(number, configuration: configuration, registry: registry, hooks: hooks)
                }
            }
        }
    }

    private static func channel(
        _ number: Int,
        configuration: PoolConfiguration,
        registry: @escaping @Sendable (ChildContext) throws -> ChannelRegistry,
        hooks: ChannelProcess.Hooks
    ) -> Child {
        let history = ChannelHistory()
        return Child(
            "channel-\(number)",
            options: ChildOptions(
                shutdown: .timeout(configuration.channelShutdown.bounded + closeMargin),
                backoff: configuration.backoff,
                killTimeout: configuration.killTimeout.bounded + closeMargin
            ),
            onKill: { (process: ChannelProcess) in await process.killed() },
            start: { context -> ChannelProcess? in
                guard let connectionSupervisor = context.supervisor.parent else { return nil }
                return ChannelProcess(
                    context,
                    connection: connectionSupervisor.child("connection", as: ConnectionProcess.self),
                    registry: try registry(context),
                    history: history,
                    hooks: hooks,
                    outbox: ChannelOutbox.Bounds(configuration.connection),
                    backoff: configuration.backoff,
                    shutdown: configuration.channelShutdown.bounded,
                    killTimeout: configuration.killTimeout.bounded
                )
            }
        )
        .withoutLogging { _ in history.isEndTold }
    }
}
