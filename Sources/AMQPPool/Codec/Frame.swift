import NIOCore

/// One AMQP frame, decoded (AMQP 0-9-1, section 2.3).
enum Frame: Sendable, Equatable {
    case method(channel: UInt16, Method)
    /// A content header. Unacceptable properties (nested too deeply, undefined flags) are a value instead of a connection error: the
    /// message is refused, and the channel continues.
    case header(channel: UInt16, bodySize: UInt64, Result<MessageProperties, RefusedProperties>)
    case body(channel: UInt16, ByteBuffer)
    case heartbeat

    /// The channel number; 0 is the connection itself.
    var channel: UInt16 {
        switch self {
        case .method(let channel, _), .header(let channel, _, _), .body(let channel, _): channel
        case .heartbeat: 0
        }
    }
}

/// Why the properties of an incoming message were not decoded.
enum PropertiesError: Error, Sendable, Equatable {
    /// The header table is nested more deeply than ``FrameDecoder/maximumNesting``.
    case nestedTooDeeply
    /// The header table has more values than ``FrameDecoder/maximumFields``.
    case tooManyFields
    /// A flag bit is set that AMQP 0-9-1 does not define, or a second flag word follows.
    case undefinedFlags
    /// The bytes cannot be decoded: they are truncated, a length contradicts another, a field has an unknown kind, or bytes are left over.
    case malformed
}

extension PropertiesError: CustomStringConvertible {
    /// A readable reason.
    var description: String {
        switch self {
        case .nestedTooDeeply: "the headers are nested more than \(FrameDecoder.maximumNesting) levels deep"
        case .tooManyFields: "the headers have more than \(FrameDecoder.maximumFields) values"
        case .undefinedFlags: "the properties have flags that AMQP 0-9-1 does not define"
        case .malformed: "the properties cannot be decoded"
        }
    }
}

/// The properties of an incoming message that were not decoded.
struct RefusedProperties: Error, Sendable, Equatable {
    var reason: PropertiesError
    /// All properties except the headers, if the headers are the reason.
    var readable: MessageProperties?
}

/// Why the stream of frames cannot be decoded any further. The connection must be closed, because nothing after this point is reliable.
enum FrameError: Error, Sendable, Equatable {
    /// A frame is larger than negotiated. Both sizes include the 8 bytes of framing.
    case oversized(bytes: UInt64, limit: UInt32)
    /// The octet after a frame is not 0xCE.
    case missingFrameEnd(found: UInt8)
    /// A frame type that AMQP 0-9-1 does not define: the peer probably does not speak AMQP (TLS, HTTP, AMQP 1.0).
    case unknownType(UInt8)
    /// The peer answered with a protocol header: it refuses AMQP 0-9-1 and names the protocol it speaks.
    case protocolRefused(identifier: UInt8, major: UInt8, minor: UInt8, revision: UInt8)
    /// The arguments of a method cannot be decoded. `id` is 0 when even the id is missing.
    case malformedMethod(id: UInt32)
    /// A method of the connection class outside channel 0, or any other on channel 0.
    case methodOnWrongChannel(id: UInt32, channel: UInt16)
    /// A content header that is too short, or not of the basic class.
    case malformedHeader(channel: UInt16)
    /// A content header or body on channel 0.
    case contentOnChannelZero
    /// A heartbeat with a payload, or outside channel 0.
    case malformedHeartbeat
}

extension FrameError: CustomStringConvertible {
    /// What arrived, and what was expected.
    var description: String {
        switch self {
        case .oversized(let bytes, let limit):
            "a frame of \(bytes) bytes arrived, and at most \(limit) were negotiated"
        case .missingFrameEnd(let found):
            "a frame ends with the octet \(found) and not with 206"
        case .unknownType(let type):
            "a frame of the unknown type \(type) arrived; the peer may not speak AMQP 0-9-1, or expect TLS"
        case .protocolRefused(let identifier, let major, let minor, let revision):
            "the peer refuses AMQP 0-9-1 and offers protocol \(identifier), version \(major).\(minor).\(revision)"
        case .malformedMethod(let id):
            "the arguments of method \(id >> 16).\(id & 0xFFFF) cannot be decoded"
        case .methodOnWrongChannel(let id, let channel):
            "method \(id >> 16).\(id & 0xFFFF) arrived on channel \(channel), where it does not belong"
        case .malformedHeader(let channel):
            "a malformed content header arrived on channel \(channel)"
        case .contentOnChannelZero:
            "content arrived on channel 0"
        case .malformedHeartbeat:
            "a heartbeat with a payload or a channel arrived"
        }
    }
}
