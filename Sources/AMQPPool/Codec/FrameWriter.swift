import CRabbitMQ
import NIOCore

/// The implementation of ``FrameEncoder`` as a value, so that exclusive access is checked once per message instead of once per field.
///
/// If a throwing function fails, ``FrameEncoder`` removes what it has written.
struct FrameWriter: ~Copyable {
    /// The maximum payload of a frame.
    var maximumPayload: Int
    var tables = TableEncoder()

    init(maximumPayload: Int) {
        self.maximumPayload = maximumPayload
    }

    /// Appends the frame of a method.
    mutating func writeMethod(_ method: Method, channel: UInt16, into buffer: inout ByteBuffer) throws(EncodingError) {
        tables.begin(room: maximumPayload - MemoryLayout<UInt32>.size)
        try encodeArguments(of: method, channel: channel, into: &buffer)
    }

    /// Appends the frames of a method, its content header and body.
    mutating func writeMessage(
        _ method: Method,
        _ properties: MessageProperties,
        _ body: ByteBuffer,
        channel: UInt16,
        into buffer: inout ByteBuffer
    ) throws(EncodingError) {
        let frames = (body.readableBytes + maximumPayload - 1) / maximumPayload
        buffer.reserveCapacity(minimumWritableBytes: 1024 + body.readableBytes + frames * FrameEncoder.overhead)
        try writeMethod(method, channel: channel, into: &buffer)
        try writeHeader(properties, bodySize: body.readableBytes, channel: channel, into: &buffer)
        writeBody(body, channel: channel, into: &buffer)
    }

    /// Appends the frame of a method whose arguments librabbitmq encodes. ``tables`` has counted their strings and tables.
    mutating func write<Arguments>(
        _ id: UInt32,
        _ arguments: Arguments,
        channel: UInt16,
        into buffer: inout ByteBuffer
    ) throws(EncodingError) {
        // 32 bytes exceed the integers and flags of any method.
        let room = min(maximumPayload - MemoryLayout.size(ofValue: id), tables.size + 32)
        let isEncoded = buffer.appendFrame(AMQP_FRAME_METHOD, channel: channel, id, arguments, limit: room) {
            amqp_encode_method(id, $0, $1)
        }
        guard isEncoded else { throw .argumentsTooLarge(bytes: tables.size, limit: room) }
    }

    /// Appends the frame of a method without arguments.
    mutating func write(_ id: UInt32, channel: UInt16, into buffer: inout ByteBuffer) {
        buffer.writeMultipleIntegers(UInt8(AMQP_FRAME_METHOD), channel, UInt32(4), id, UInt8(AMQP_FRAME_END))
    }

    /// Appends `connection.update-secret`, which librabbitmq supports only since 0.12.
    mutating func writeUpdateSecret(
        _ newSecret: [UInt8],
        reason: String,
        channel: UInt16,
        into buffer: inout ByteBuffer
    ) throws(EncodingError) {
        _ = try tables.longString(newSecret)
        _ = try tables.shortString(reason, "reason")
        let reason = ShortString.bytes(of: reason)
        let size = 4 + 4 + newSecret.count + 1 + reason.count
        buffer.writeMultipleIntegers(
            UInt8(AMQP_FRAME_METHOD),
            channel,
            UInt32(size),
            Method.updateSecretID,
            UInt32(newSecret.count)
        )
        buffer.writeBytes(newSecret)
        buffer.writeInteger(UInt8(clamping: reason.count))
        buffer.writeBytes(reason)
        buffer.writeInteger(UInt8(AMQP_FRAME_END))
    }

    private mutating func writeHeader(
        _ properties: MessageProperties,
        bodySize: Int,
        channel: UInt16,
        into buffer: inout ByteBuffer
    ) throws(EncodingError) {
        // After the class, a weight of 0, and the size.
        let room = maximumPayload - 12
        tables.begin(room: room)
        let encoded: amqp_basic_properties_t
        do throws(EncodingError) {
            encoded = try tables.properties(properties)
        } catch .argumentsTooLarge(let bytes, _) {
            throw .headersTooLarge(bytes: bytes, limit: room)
        }
        // 16 bytes exceed the flags and integers among the properties.
        let limit = min(room, tables.size + 16)
        let isEncoded = buffer.appendFrame(
            AMQP_FRAME_HEADER,
            channel: channel,
            UInt32(AMQP_BASIC_CLASS) << 16,
            then: UInt64(bodySize),
            encoded,
            limit: limit,
            by: { amqp_encode_properties(UInt16(AMQP_BASIC_CLASS), $0, $1) }
        )
        guard isEncoded else { throw .headersTooLarge(bytes: tables.size, limit: room) }
    }

    private func writeBody(_ body: ByteBuffer, channel: UInt16, into buffer: inout ByteBuffer) {
        var rest = body
        while rest.readableBytes > 0, let chunk = rest.readSlice(length: min(rest.readableBytes, maximumPayload)) {
            buffer.appendFrame(AMQP_FRAME_BODY, channel: channel, chunk)
        }
    }
}
