internal import ConcurrencyPrimitives
import Synchronization

/// The broker of a connection, and the negotiated parameters.
public struct BrokerIdentity: Sendable {
    /// The broker's properties: `product`, `version`, `cluster_name`, `platform`, `capabilities` and more.
    public let serverProperties: FieldTable
    /// The maximum number of channels of the connection; 0 means no limit.
    public let maximumChannels: UInt16
    /// The largest frame, in bytes; 0 means no limit.
    public let maximumFrameSize: UInt32
    /// The heartbeat interval; zero means none.
    public let heartbeat: Duration
    /// When the connection was opened.
    public let connectedAt: ContinuousClock.Instant

    /// The broker's product, for example `RabbitMQ`.
    public var product: String? { serverProperties.text("product") }
    /// The broker's version, for example `4.0.5`.
    public var version: String? { serverProperties.text("version") }
}

extension FieldTable {
    fileprivate func text(_ key: String) -> String? {
        if case .string(let text)? = self[key] { text } else { nil }
    }
}

extension AMQPConnection {
    /// The broker of the connection, and the negotiated parameters.
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

    /// Records the broker's identity after the handshake.
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
