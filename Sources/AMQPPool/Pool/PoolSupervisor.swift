internal import ConcurrencyPrimitives
package import Supervision

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
/// Failures of the broker and the network are never escalated: connections and channels are reopened after a backoff, and their supervisors
/// cool down instead of giving up. There is one exception: a topology that the broker refuses (403, 406) when a channel is set up for the
/// first time is a configuration error. Then the supervisor above the pool is asked to exit with `.shutdown(cause:)`, with the
/// ``AMQPError`` as the cause.
///
/// - Parameters:
///   - id: The name of the supervisor.
///   - configuration: The numbers of connections and channels, and the endpoints.
///   - source: Whether the connections are opened here or leased from another pool of this process.
///   - registry: Finds the registry for the channels, for each incarnation.
///   - onOpen: Sets up each new channel before it is registered: declares, consumes. The channel is in confirm mode. If it throws, the
///     channel is opened again after a backoff.
///   - onStop: Called before an open channel is closed because its process is stopped: time to finish work, bounded by
///     ``PoolConfiguration/channelShutdown``. Not called for a channel that is killed or lost.
///   - onClose: Called on the event loop when an opened channel is closed, for any reason. Must not block.
package func poolSupervisor(
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
            connectionSupervisor(
                number,
                configuration: configuration,
                source: source,
                registry: registry,
                hooks: hooks
            )
        }
    }
}

/// How much longer than closing a supervisor waits. Closing takes at most its own timeout, plus a second when the event loop is stuck; the
/// margin is for a machine that is so busy that timers are late.
private let closeMargin = Duration.seconds(3)

private func connectionSupervisor(
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
        // The pool reports the loss of a connection.
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

private func channel(
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
