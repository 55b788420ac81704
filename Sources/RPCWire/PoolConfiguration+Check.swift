package import AMQPPool

extension PoolConfiguration {
    /// Throws if a connection cannot have its channels, and one more for operations that may end their channel.
    package func checkChannels() throws(RPCConfigurationError) {
        for endpoint in endpoints {
            let limit = Int(min(connection.maximumChannels, endpoint.channelMax ?? .max))
            // In AMQP, 0 means no limit.
            guard limit > 0, limit <= channelsPerConnection else { continue }
            let why = "allows \(limit) on a connection, but \(channelsPerConnection) and one more are needed"
            throw .invalidSetting("the number of channels", why: why)
        }
    }
}
