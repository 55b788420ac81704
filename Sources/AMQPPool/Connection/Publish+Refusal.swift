import NIOCore

extension Publish {
    /// Why a channel of a connection with these settings would refuse the message before a byte of it is sent; `nil`: it would not.
    ///
    /// For what takes the place of a channel where there is no broker. The frames are as large as the settings ask for.
    package func refusal(by configuration: ConnectionConfiguration) -> AMQPError? {
        guard body.readableBytes <= configuration.maximumMessageSize else {
            return .messageTooLarge(bytes: body.readableBytes, limit: configuration.maximumMessageSize)
        }
        let encoder = FrameEncoder(maximumFrameSize: configuration.maximumFrameSize)
        var scratch = ByteBuffer()
        do throws(EncodingError) {
            // Nothing of a body can be refused but its size.
            try encoder.encode(
                .basicPublish(exchange: exchange, routingKey: routingKey, mandatory: mandatory),
                channel: 1,
                properties: properties,
                body: ByteBuffer(),
                into: &scratch
            )
            return nil
        } catch {
            return .unencodable(error)
        }
    }
}
