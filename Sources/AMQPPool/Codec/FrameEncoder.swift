import CRabbitMQ
import NIOCore

/// Encodes methods, messages and heartbeats as AMQP frames (AMQP 0-9-1, section 2.3).
///
/// All or nothing: on an error the buffer is unchanged. Every frame is at most ``maximumFrameSize`` bytes.
///
/// Not thread-safe: it belongs to one connection.
final class FrameEncoder {
    /// The first bytes that a client sends: "AMQP", then protocol 0, version 0-9-1.
    static let protocolHeader: [UInt8] = Array("AMQP".utf8) + [0, 0, 9, 1]
    /// Type, channel and size before the payload, and 0xCE after it.
    static let overhead = 8
    /// AMQP's minimum for a negotiated frame size.
    static let minimumFrameSize: UInt32 = 4096

    /// The largest frame to write, including the 8 bytes of framing. Values below 4096 count as 4096, which every peer accepts.
    var maximumFrameSize: UInt32 {
        get { UInt32(writer.maximumPayload + Self.overhead) }
        set { writer.maximumPayload = Int(max(newValue, Self.minimumFrameSize)) - Self.overhead }
    }

    private var writer: FrameWriter

    /// Creates an encoder with this maximum frame size, including the 8 bytes of framing.
    init(maximumFrameSize: UInt32) {
        writer = FrameWriter(maximumPayload: Int(max(maximumFrameSize, Self.minimumFrameSize)) - Self.overhead)
    }

    /// Appends a heartbeat frame.
    func encodeHeartbeat(into buffer: inout ByteBuffer) {
        buffer.writeMultipleIntegers(UInt8(AMQP_FRAME_HEARTBEAT), UInt16(0), UInt32(0), UInt8(AMQP_FRAME_END))
    }

    /// Appends a method without content.
    func encode(_ method: Method, channel: UInt16, into buffer: inout ByteBuffer) throws(EncodingError) {
        let start = buffer.writerIndex
        do throws(EncodingError) {
            try writer.writeMethod(method, channel: channel, into: &buffer)
        } catch {
            buffer.moveWriterIndex(to: start)
            throw error
        }
    }

    /// Appends a method with its content: the method frame, the header frame, and as many body frames as needed; none for an empty body.
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
            try writer.writeMessage(method, properties, body, channel: channel, into: &buffer)
        } catch {
            buffer.moveWriterIndex(to: start)
            throw error
        }
    }
}
