internal import ConcurrencyPrimitives
import Synchronization

/// Which broker a connection was opened to, and what both sides agreed on.
public struct BrokerIdentity: Sendable {
    /// What the broker says of itself: `product`, `version`, `cluster_name`, `platform`, `capabilities` and more.
    public let serverProperties: FieldTable
    /// How many channels the connection may have; 0 is no limit.
    public let maximumChannels: UInt16
    /// The largest frame, in bytes; 0 is no limit.
    public let maximumFrameSize: UInt32
    /// The heartbeat interval; zero is none.
    public let heartbeat: Duration
    /// When the connection was open.
    public let connectedAt: ContinuousClock.Instant

    /// The broker's product, such as `RabbitMQ`.
    public var product: String? { serverProperties.text("product") }
    /// The broker's version, such as `4.0.5`.
    public var version: String? { serverProperties.text("version") }
    /// The name of the broker's cluster.
    public var clusterName: String? { serverProperties.text("cluster_name") }
}

extension FieldTable {
    fileprivate func text(_ key: String) -> String? {
        if case .string(let text)? = self[key] { text } else { nil }
    }
}

extension AMQPConnection {
    /// Which broker the connection is to, and what was agreed on with it.
    public nonisolated var broker: BrokerIdentity {
        identity.current
            ?? BrokerIdentity(
                serverProperties: FieldTable(),
                maximumChannels: 0,
                maximumFrameSize: 0,
                heartbeat: .zero,
                connectedAt: .now
            )
    }

    /// The handshake is done.
    func identify() {
        guard let agreed = machine.negotiated else { return }
        identity.set(
            BrokerIdentity(
                serverProperties: machine.serverProperties,
                maximumChannels: agreed.channelMax,
                maximumFrameSize: agreed.frameMax,
                heartbeat: agreed.heartbeat,
                connectedAt: .now
            )
        )
    }
}
