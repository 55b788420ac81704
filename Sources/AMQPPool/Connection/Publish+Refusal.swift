import NIOCore

extension Publish {
    /// Why a channel of a connection with these settings would refuse the message before sending anything; `nil` if it would not.
    ///
    /// For stand-ins of a channel without a broker. The maximum frame size is that of the settings.
    package func refusal(by configuration: ConnectionConfiguration) -> AMQPError? {
        guard body.readableBytes <= configuration.maximumMessageSize else {
            return .messageTooLarge(bytes: body.readableBytes, limit: configuration.maximumMessageSize)
        }
        let encoder = FrameEncoder(maximumFrameSize: configuration.maximumFrameSize)
        var scratch = ByteBuffer()
        do throws(EncodingError) {
            // Only the size of a body can be refused.
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
