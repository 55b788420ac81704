package import AMQPPool

extension PoolConfiguration {
    /// Whether a connection can have the channels that it is to have, and one more for what may end the channel that it is asked on.
    package func checkChannels() throws(RPCConfigurationError) {
        for endpoint in endpoints {
            let limit = Int(min(connection.maximumChannels, endpoint.channelMax ?? .max))
            // 0 is AMQP's word for no limit.
            guard limit > 0, limit <= channelsPerConnection else { continue }
            let why = "allows \(limit) on a connection, and \(channelsPerConnection) and one more are needed"
            throw .invalidSetting("the number of channels", why: why)
        }
    }
}
