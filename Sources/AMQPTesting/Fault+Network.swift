public import LocalBroker
public import SupervisionTesting

/// Faults of the network, with the clients connected through a ``FaultProxy``.
extension Chaos.Fault {
    /// All network faults, named `network-cut` and so on.
    ///
    /// - Parameters:
    ///   - proxy: The proxy that the clients are connected through.
    ///   - name: The prefix of the faults' names, to distinguish several networks.
    ///   - duration: The length of faults that last for a while.
    public static func network(
        _ proxy: FaultProxy,
        _ name: String = "network",
        for duration: Duration = .seconds(1)
    ) -> [Chaos.Fault] {
        [
            connectionCut(proxy).named("\(name)-cut"),
            connectionCut(proxy, .finish).named("\(name)-finished"),
            allConnectionsCut(proxy).named("\(name)-all-cut"),
            networkStalled(proxy, for: duration).named("\(name)-stalled"),
            networkHalfOpen(proxy, for: duration).named("\(name)-half-open"),
            networkSlow(proxy, for: duration).named("\(name)-slow"),
            connectionsRefused(proxy, for: duration).named("\(name)-refused"),
        ]
    }

    /// The oldest connection ends: `network-cut`.
    ///
    /// - Parameters:
    ///   - proxy: The proxy that the clients are connected through.
    ///   - how: By RST or by FIN.
    public static func connectionCut(_ proxy: FaultProxy, _ how: FaultProxy.Cut = .reset) -> Chaos.Fault {
        Chaos.Fault("network-cut") { _ in
            if let oldest = await proxy.connections.first { await proxy.cut(how, on: .connection(oldest.id)) }
        }
    }

    /// All connections end at once: `network-all-cut`.
    public static func allConnectionsCut(_ proxy: FaultProxy, _ how: FaultProxy.Cut = .reset) -> Chaos.Fault {
        Chaos.Fault("network-all-cut") { _ in await proxy.cut(how, on: .open) }
    }

    /// Nothing gets through in either direction for a while, but nothing is lost: `network-stalled`.
    public static func networkStalled(_ proxy: FaultProxy, for duration: Duration = .seconds(1)) -> Chaos.Fault {
        conditions("network-stalled", .stalled, proxy, duration)
    }

    /// Everything is silently lost in transit for a while: `network-half-open`. Connections that have lost something are reset at the end,
    /// unless a peer has given them up before.
    ///
    /// Clients detect it by their heartbeats: configure intervals shorter than the fault.
    public static func networkHalfOpen(_ proxy: FaultProxy, for duration: Duration = .seconds(1)) -> Chaos.Fault {
        conditions("network-half-open", .halfOpen, proxy, duration)
    }

    /// Everything is delayed for a while: `network-slow`.
    public static func networkSlow(
        _ proxy: FaultProxy,
        _ conditions: NetworkConditions = NetworkConditions(delay: .milliseconds(50), bytesPerSecond: 256 << 10),
        for duration: Duration = .seconds(1)
    ) -> Chaos.Fault {
        self.conditions("network-slow", conditions, proxy, duration)
    }

    /// All connections end, and new ones are refused for a while: `network-refused`.
    public static func connectionsRefused(_ proxy: FaultProxy, for duration: Duration = .seconds(1)) -> Chaos.Fault {
        Chaos.Fault("network-refused") { _ in
            try await proxy.setNewConnections(.refused)
            await proxy.cut(.reset, on: .open)
            await pass(duration)
            try await proxy.setNewConnections(.accepted)
        }
    }

    private static func conditions(
        _ name: String,
        _ conditions: NetworkConditions,
        _ proxy: FaultProxy,
        _ duration: Duration
    ) -> Chaos.Fault {
        Chaos.Fault(name) { _ in
            await proxy.set(conditions)
            await pass(duration)
            await proxy.heal()
        }
    }
}

/// Returns early when the task is cancelled: the fault is undone in any case.
func pass(_ duration: Duration) async {
    // The clock's arithmetic would overflow with the longest durations.
    try? await Task.sleep(for: min(duration, .seconds(1 << 31)))
}
