import CRabbitMQ
import NIOCore

/// Writes methods, messages and heartbeats as AMQP frames (AMQP 0-9-1, section 2.3).
///
/// All or nothing: whatever cannot be sent is found before the caller sees a byte of it, and on a throw the buffer reads
/// as it did before. Every frame is at most ``maximumFrameSize`` bytes.
///
/// Not thread-safe: it belongs to one connection.
final class FrameEncoder {
    /// What a client sends first: "AMQP", then protocol 0, version 0-9-1.
    static let protocolHeader: [UInt8] = Array("AMQP".utf8) + [0, 0, 9, 1]
    /// Type, channel and size before the payload, and 0xCE after it.
    static let overhead = 8
    /// AMQP's minimum for a negotiated frame size.
    static let minimumFrameSize: UInt32 = 4096

    /// The largest frame to write, with its 8 bytes of framing. Less than 4096 counts as 4096, which every peer accepts.
    var maximumFrameSize: UInt32 {
        didSet { maximumFrameSize = max(maximumFrameSize, Self.minimumFrameSize) }
    }

    var tables = TableEncoder()

    private var maximumPayload: Int { Int(maximumFrameSize) - Self.overhead }

    /// An encoder that writes frames of at most this size, with their 8 bytes of framing.
    init(maximumFrameSize: UInt32) {
        self.maximumFrameSize = max(maximumFrameSize, Self.minimumFrameSize)
    }

    /// Appends a heartbeat.
    func encodeHeartbeat(into buffer: inout ByteBuffer) {
        buffer.writeMultipleIntegers(UInt8(AMQP_FRAME_HEARTBEAT), UInt16(0), UInt32(0), UInt8(AMQP_FRAME_END))
    }

    /// Appends a method without content.
    func encode(_ method: Method, channel: UInt16, into buffer: inout ByteBuffer) throws(EncodingError) {
        let start = buffer.writerIndex
        do throws(EncodingError) {
            try writeMethod(method, channel: channel, into: &buffer)
        } catch {
            buffer.moveWriterIndex(to: start)
            throw error
        }
    }

    /// Appends a method with its content: the method's frame, the header's, and as many body frames as it takes; none for
    /// an empty body.
    func encode(
        _ method: Method,
        channel: UInt16,
        properties: MessageProperties,
        body: ByteBuffer,
        into buffer: inout ByteBuffer
    ) throws(EncodingError) {
        guard method.hasContent else { throw .unsupportedMethod(method.name) }
        let start = buffer.writerIndex
        do throws(EncodingError) {
            let frames = (body.readableBytes + maximumPayload - 1) / maximumPayload
            buffer.reserveCapacity(minimumWritableBytes: 1024 + body.readableBytes + frames * Self.overhead)
            try writeMethod(method, channel: channel, into: &buffer)
            try writeHeader(properties, bodySize: body.readableBytes, channel: channel, into: &buffer)
        } catch {
            buffer.moveWriterIndex(to: start)
            throw error
        }
        writeBody(body, channel: channel, into: &buffer)
    }

    /// Appends the frame of a method whose arguments librabbitmq encodes. ``tables`` has counted their strings and tables.
    func write<Arguments>(
        _ id: UInt32,
        _ arguments: Arguments,
        channel: UInt16,
        into buffer: inout ByteBuffer
    ) throws(EncodingError) {
        let start = beginFrame(AMQP_FRAME_METHOD, channel: channel, into: &buffer)
        buffer.writeInteger(id)
        // 32 bytes are more than the integers and flags of any method.
        let room = min(maximumPayload - MemoryLayout.size(ofValue: id), tables.size + 32)
        guard buffer.append(arguments, limit: room, by: { amqp_encode_method(id, $0, $1) }) else {
            throw .argumentsTooLarge(bytes: tables.size, limit: room)
        }
        endFrame(from: start, in: &buffer)
    }

    /// Appends the frame of a method that has no arguments.
    func write(_ id: UInt32, channel: UInt16, into buffer: inout ByteBuffer) {
        let start = beginFrame(AMQP_FRAME_METHOD, channel: channel, into: &buffer)
        buffer.writeInteger(id)
        endFrame(from: start, in: &buffer)
    }

    /// Appends `connection.update-secret`, which librabbitmq does not know before 0.12.
    func writeUpdateSecret(
        _ newSecret: [UInt8],
        reason: String,
        channel: UInt16,
        into buffer: inout ByteBuffer
    ) throws(EncodingError) {
        _ = try tables.longString(newSecret)
        _ = try tables.shortString(reason, "reason")
        let start = beginFrame(AMQP_FRAME_METHOD, channel: channel, into: &buffer)
        buffer.writeMultipleIntegers(Method.updateSecretID, UInt32(newSecret.count))
        buffer.writeBytes(newSecret)
        buffer.writeInteger(UInt8(reason.utf8.count))
        buffer.writeString(reason)
        endFrame(from: start, in: &buffer)
    }

    private func writeMethod(_ method: Method, channel: UInt16, into buffer: inout ByteBuffer) throws(EncodingError) {
        tables.begin(room: maximumPayload - MemoryLayout<UInt32>.size)
        try encodeArguments(of: method, channel: channel, into: &buffer)
    }

    private func writeHeader(
        _ properties: MessageProperties,
        bodySize: Int,
        channel: UInt16,
        into buffer: inout ByteBuffer
    ) throws(EncodingError) {
        let start = beginFrame(AMQP_FRAME_HEADER, channel: channel, into: &buffer)
        let fixed = buffer.writeMultipleIntegers(UInt16(AMQP_BASIC_CLASS), UInt16(0), UInt64(bodySize))
        let room = maximumPayload - fixed
        tables.begin(room: room)
        let encoded: amqp_basic_properties_t
        do throws(EncodingError) {
            encoded = try tables.properties(properties)
        } catch .argumentsTooLarge(let bytes, _) {
            throw .headersTooLarge(bytes: bytes, limit: room)
        }
        // 16 bytes are more than the flags and integers among the properties.
        let limit = min(room, tables.size + 16)
        guard
            buffer.append(
                encoded,
                limit: limit,
                by: { amqp_encode_properties(UInt16(AMQP_BASIC_CLASS), $0, $1) }
            )
        else {
            throw .headersTooLarge(bytes: tables.size, limit: room)
        }
        endFrame(from: start, in: &buffer)
    }

    private func writeBody(_ body: ByteBuffer, channel: UInt16, into buffer: inout ByteBuffer) {
        var rest = body
        while rest.readableBytes > 0, let chunk = rest.readSlice(length: min(rest.readableBytes, maximumPayload)) {
            buffer.writeMultipleIntegers(UInt8(AMQP_FRAME_BODY), channel, UInt32(chunk.readableBytes))
            buffer.writeImmutableBuffer(chunk)
            buffer.writeInteger(UInt8(AMQP_FRAME_END))
        }
    }

    /// Writes a frame's header with a size to be filled in, and returns where the payload begins.
    private func beginFrame(_ type: CInt, channel: UInt16, into buffer: inout ByteBuffer) -> Int {
        buffer.writeMultipleIntegers(UInt8(truncatingIfNeeded: type), channel, UInt32(0))
        return buffer.writerIndex
    }

    private func endFrame(from payload: Int, in buffer: inout ByteBuffer) {
        let size = UInt32(buffer.writerIndex - payload)
        buffer.setInteger(size, at: payload - MemoryLayout.size(ofValue: size))
        buffer.writeInteger(UInt8(AMQP_FRAME_END))
    }
}
