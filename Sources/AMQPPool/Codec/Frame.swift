import NIOCore

/// One AMQP frame, decoded (AMQP 0-9-1, section 2.3).
enum Frame: Sendable, Equatable {
    case method(channel: UInt16, Method)
    /// A content header. Properties that cannot be accepted (nested too deeply, undefined flags) are a value, not the end
    /// of the connection: the message is refused, the channel goes on.
    case header(channel: UInt16, bodySize: UInt64, Result<MessageProperties, PropertiesError>)
    case body(channel: UInt16, ByteBuffer)
    case heartbeat
}

/// Why the properties of an incoming message were not decoded.
enum PropertiesError: Error, Sendable, Equatable {
    /// The header table is nested more deeply than ``FrameDecoder/maximumNesting``.
    case nestedTooDeeply
    /// A flag bit is set that AMQP 0-9-1 does not define, or a second flag word follows.
    case undefinedFlags
    /// The bytes do not decode.
    case malformed
}
