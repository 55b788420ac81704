import NIOCore

@testable import AMQPPool

/// A table with a field of every kind, nested in each other.
let everyKind: FieldTable = [
    "bool": .bool(true), "int8": .int8(-8), "uint8": .uint8(200), "int16": .int16(-1600), "uint16": .uint16(65_000),
    "int32": .int32(.min), "uint32": .uint32(.max), "int64": .int64(.min), "uint64": .uint64(.max),
    "float": .float(1.5), "double": .double(-2.25), "decimal": .decimal(scale: 2, value: 314),
    "string": .string("Grüße, 世界"), "empty": .string(""), "bytes": .bytes([0, 255, 1]), "no bytes": .bytes([]),
    "timestamp": .timestamp(1_700_000_000), "void": .void, "no array": .array([]), "no table": .table([:]),
    "array": .array([.void, .array([.bool(false), .string("x")]), .table(["in": .array([.int8(1)])])]),
    "table": .table(["deeper": .table(["deepest": .double(-1e300)]), "": .string("an empty key")]),
]

/// Every property set.
let everyProperty = MessageProperties(
    contentType: "application/json",
    contentEncoding: "gzip",
    headers: everyKind,
    deliveryMode: .persistent,
    priority: 9,
    correlationID: "correlation",
    replyTo: "reply",
    expiration: "60000",
    messageID: "message",
    timestamp: 1_700_000_000,
    type: "type",
    userID: "guest",
    appID: "app"
)

/// Every method that can be encoded, with arguments that differ from their defaults.
let everyMethod: [Method] = [
    .connectionStart(
        ConnectionStart(
            versionMajor: 0,
            versionMinor: 9,
            serverProperties: everyKind,
            mechanisms: "PLAIN AMQPLAIN",
            locales: "en_US"
        )
    ),
    .connectionStartOK(
        clientProperties: everyKind,
        mechanism: "PLAIN",
        response: Array("\0guest\0guest".utf8),
        locale: "en_US"
    ),
    .connectionSecure(challenge: [1, 2, 3]),
    .connectionSecureOK(response: [3, 2, 1]),
    .connectionTune(channelMax: 2047, frameMax: 131_072, heartbeat: 60),
    .connectionTuneOK(channelMax: 1, frameMax: 4096, heartbeat: 0),
    .connectionOpen(virtualHost: "/"),
    .connectionOpenOK,
    .connectionClose(CloseReason(replyCode: 320, replyText: "CONNECTION_FORCED - bye", classID: 10, methodID: 40)),
    .connectionCloseOK,
    .connectionBlocked(reason: "low on memory"),
    .connectionUnblocked,
    .connectionUpdateSecret(newSecret: [9, 8, 7], reason: "expired"),
    .connectionUpdateSecretOK,
    .channelOpen,
    .channelOpenOK,
    .channelFlow(active: true),
    .channelFlowOK(active: false),
    .channelClose(CloseReason(replyCode: 404, replyText: "NOT_FOUND", classID: 60, methodID: 40)),
    .channelCloseOK,
    .exchangeDeclare(
        ExchangeDeclare(
            exchange: "e",
            type: "headers",
            passive: true,
            durable: true,
            autoDelete: true,
            isInternal: true,
            arguments: everyKind
        )
    ),
    .exchangeDeclare(ExchangeDeclare(exchange: "e", type: "direct")),
    .exchangeDeclareOK,
    .exchangeDelete(exchange: "e", ifUnused: true),
    .exchangeDeleteOK,
    .exchangeBind(destination: "d", source: "s", routingKey: "k", arguments: everyKind),
    .exchangeBindOK,
    .exchangeUnbind(destination: "d", source: "s", routingKey: "k", arguments: everyKind),
    .exchangeUnbindOK,
    .queueDeclare(
        QueueDeclare(
            queue: "q",
            passive: true,
            durable: true,
            exclusive: true,
            autoDelete: true,
            arguments: everyKind
        )
    ),
    .queueDeclare(QueueDeclare(queue: "", durable: true)),
    .queueDeclareOK(queue: "q", messageCount: 12, consumerCount: 3),
    .queueBind(queue: "q", exchange: "e", routingKey: "k", arguments: everyKind),
    .queueBindOK,
    .queueUnbind(queue: "q", exchange: "e", routingKey: "k", arguments: everyKind),
    .queueUnbindOK,
    .queuePurge(queue: "q"),
    .queuePurgeOK(messageCount: 7),
    .queueDelete(queue: "q", ifUnused: true, ifEmpty: false),
    .queueDelete(queue: "q", ifUnused: false, ifEmpty: true),
    .queueDeleteOK(messageCount: 8),
    .basicQos(prefetchSize: 1, prefetchCount: 256, global: true),
    .basicQosOK,
    .basicConsume(
        BasicConsume(queue: "q", consumerTag: "tag", noAck: true, exclusive: true, arguments: everyKind)
    ),
    .basicConsumeOK(consumerTag: "tag"),
    .basicCancel(consumerTag: "tag", noWait: true),
    .basicCancelOK(consumerTag: "tag"),
    .basicPublish(exchange: "e", routingKey: "key", mandatory: true),
    .basicReturn(replyCode: 312, replyText: "NO_ROUTE", exchange: "e", routingKey: "k"),
    .basicDeliver(consumerTag: "tag", deliveryTag: .max, redelivered: true, exchange: "e", routingKey: "k"),
    .basicGet(queue: "q", noAck: true),
    .basicGetOK(deliveryTag: 5, redelivered: false, exchange: "", routingKey: "k", messageCount: 2),
    .basicGetEmpty,
    .basicAck(deliveryTag: 1 << 40, multiple: true),
    .basicReject(deliveryTag: 2, requeue: true),
    .basicNack(deliveryTag: 3, multiple: false, requeue: true),
    .basicRecover(requeue: true),
    .basicRecoverOK,
    .confirmSelect,
    .confirmSelectOK,
]

extension Method {
    /// A channel this method may be sent on.
    var someChannel: UInt16 { id >> 16 == 10 ? 0 : 7 }
}

/// The bytes of one method's frame.
func encoded(_ method: Method, maximumFrameSize: UInt32 = 131_072) throws(EncodingError) -> [UInt8] {
    var buffer = ByteBuffer()
    try FrameEncoder(maximumFrameSize: maximumFrameSize).encode(method, channel: method.someChannel, into: &buffer)
    return Array(buffer.readableBytesView)
}

/// The bytes of a message's frames.
func encoded(
    _ method: Method = .basicPublish(exchange: "", routingKey: "q", mandatory: false),
    properties: MessageProperties,
    body: [UInt8] = [],
    maximumFrameSize: UInt32 = 131_072
) throws(EncodingError) -> [UInt8] {
    var buffer = ByteBuffer()
    try FrameEncoder(maximumFrameSize: maximumFrameSize).encode(
        method,
        channel: 7,
        properties: properties,
        body: ByteBuffer(bytes: body),
        into: &buffer
    )
    return Array(buffer.readableBytesView)
}

/// All frames in these bytes. Bytes left over are not reported.
func decoded(_ bytes: [UInt8], maximumFrameSize: UInt32 = 131_072) throws(FrameError) -> [Frame] {
    let decoder = FrameDecoder(maximumFrameSize: maximumFrameSize)
    decoder.append(ByteBuffer(bytes: bytes))
    return try decoder.drain()
}

extension FrameDecoder {
    /// All frames that have arrived.
    func drain() throws(FrameError) -> [Frame] {
        var frames: [Frame] = []
        while let frame = try next() { frames.append(frame) }
        return frames
    }
}

/// A frame with any payload, well framed.
func frame(type: UInt8, channel: UInt16, payload: [UInt8]) -> [UInt8] {
    var buffer = ByteBuffer()
    buffer.writeMultipleIntegers(type, channel, UInt32(payload.count))
    buffer.writeBytes(payload)
    buffer.writeInteger(UInt8(0xCE))
    return Array(buffer.readableBytesView)
}

/// A content header frame of a message of the basic class, with these bytes as properties.
func header(properties: [UInt8], bodySize: UInt64 = 0) -> [UInt8] {
    var buffer = ByteBuffer()
    buffer.writeMultipleIntegers(UInt16(60), UInt16(0), bodySize)
    buffer.writeBytes(properties)
    return frame(type: 2, channel: 7, payload: Array(buffer.readableBytesView))
}

/// Property bytes that have only a header table, with these bytes as the table's content.
func headers(_ content: [UInt8]) -> [UInt8] {
    var buffer = ByteBuffer()
    buffer.writeMultipleIntegers(UInt16(1 << 13), UInt32(content.count))
    buffer.writeBytes(content)
    return Array(buffer.readableBytesView)
}

/// What decoding a content header with these property bytes gives.
func decodedProperties(_ bytes: [UInt8]) throws -> Result<MessageProperties, PropertiesError> {
    guard case .header(_, _, let result)? = try decoded(header(properties: bytes)).first else {
        throw FrameError.malformedHeader(channel: 7)
    }
    return result.mapError(\.reason)
}

/// SplitMix64: the same numbers for the same seed, so that a failure can be repeated.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
