import CRabbitMQ
import NIOCore

/// The implementation of ``FrameDecoder`` as a value, so that exclusive access is checked once per frame instead of at every step.
struct FrameReader: ~Copyable {
    var maximumFrameSize: UInt32
    private var buffer = ByteBuffer()
    private var decoder = CDecoder()

    init(maximumFrameSize: UInt32) {
        self.maximumFrameSize = maximumFrameSize
    }

    mutating func append(_ bytes: ByteBuffer) {
        if buffer.readableBytes == 0 {
            buffer = bytes
        } else {
            buffer.discardReadBytes()
            buffer.writeImmutableBuffer(bytes)
        }
    }

    mutating func next() throws(FrameError) -> Frame? {
        guard let start = peek() else { return nil }
        return try frame(start)
    }

    /// Appends the next complete frames, at most `most`, as long as they belong to one channel.
    mutating func next(_ most: Int, into frames: inout [Frame]) throws(FrameError) {
        var channel: UInt16?
        for _ in 0..<most {
            guard let start = peek(), start.channel == channel ?? start.channel, let frame = try frame(start)
            else { return }
            channel = start.channel
            frames.append(frame)
        }
    }

    /// The integers of a frame, read in one access, because a buffer checks each of them.
    private struct Start {
        var type: UInt8
        var channel: UInt16
        /// The size of the payload.
        var size: UInt32
        /// The octet after the payload; `nil` if it has not arrived.
        var end: UInt8?
        /// The first four and the next eight bytes of the payload, 0 where it is shorter: a method's id, or the class, weight and body size
        /// of a content header.
        var first: UInt32 = 0
        var second: UInt64 = 0
    }

    private func peek() -> Start? {
        let bytes = buffer.readableBytesSpan
        let payload = FrameEncoder.overhead - 1
        guard bytes.byteCount >= payload else { return nil }
        var start = Start(
            type: bytes.unsafeLoad(as: UInt8.self),
            channel: UInt16(bigEndian: bytes.unsafeLoadUnaligned(fromByteOffset: 1, as: UInt16.self)),
            size: UInt32(bigEndian: bytes.unsafeLoadUnaligned(fromByteOffset: 3, as: UInt32.self))
        )
        let size = Int(start.size)
        guard bytes.byteCount > payload + size else { return start }
        start.end = bytes.unsafeLoad(fromByteOffset: payload + size, as: UInt8.self)
        if size >= 4 {
            start.first = UInt32(bigEndian: bytes.unsafeLoadUnaligned(fromByteOffset: payload, as: UInt32.self))
        }
        if size >= 12 {
            start.second = UInt64(bigEndian: bytes.unsafeLoadUnaligned(fromByteOffset: payload + 4, as: UInt64.self))
        }
        return start
    }

    private mutating func frame(_ start: Start) throws(FrameError) -> Frame? {
        guard let kind = FrameKind(rawValue: start.type) else { return try refuse(type: start.type) }
        let total = UInt64(start.size) + UInt64(FrameEncoder.overhead)
        guard total <= UInt64(maximumFrameSize) else {
            throw .oversized(bytes: total, limit: maximumFrameSize)
        }
        guard let end = start.end else { return nil }
        guard end == UInt8(AMQP_FRAME_END) else { throw .missingFrameEnd(found: end) }
        defer { buffer.moveReaderIndex(forwardBy: Int(total)) }
        switch kind {
        case .method: return try method(start)
        case .header: return try header(start)
        case .body: return try body(start)
        case .heartbeat:
            guard start.channel == 0, start.size == 0 else { throw .malformedHeartbeat }
            return .heartbeat
        }
    }

    /// The payload of the frame that begins here, from this offset; `nil` if it is shorter.
    private func payload(_ start: Start, from offset: Int) -> ByteBuffer? {
        let begin = buffer.readerIndex + FrameEncoder.overhead - 1
        return buffer.getSlice(at: begin + offset, length: Int(start.size) - offset)
    }

    private func refuse(type: UInt8) throws(FrameError) -> Frame? {
        guard type == UInt8(ascii: "A") else { throw .unknownType(type) }
        guard let header = buffer.getBytes(at: buffer.readerIndex, length: 8) else { return nil }
        guard header.starts(with: "AMQP".utf8) else { throw .unknownType(type) }
        throw .protocolRefused(identifier: header[4], major: header[5], minor: header[6], revision: header[7])
    }

    private mutating func method(_ start: Start) throws(FrameError) -> Frame {
        guard start.size >= 4, let arguments = payload(start, from: 4) else { throw .malformedMethod(id: 0) }
        let id = start.first
        guard (id >> 16 == AMQP_CONNECTION_CLASS) == (start.channel == 0) else {
            throw .methodOnWrongChannel(id: id, channel: start.channel)
        }
        guard let method = decoder.method(id: id, arguments: arguments) else { throw .malformedMethod(id: id) }
        return .method(channel: start.channel, method)
    }

    private mutating func header(_ start: Start) throws(FrameError) -> Frame {
        guard start.channel != 0 else { throw .contentOnChannelZero }
        guard start.size >= 12, start.first >> 16 == AMQP_BASIC_CLASS, let properties = payload(start, from: 12) else {
            throw .malformedHeader(channel: start.channel)
        }
        return .header(channel: start.channel, bodySize: start.second, decoder.properties(properties))
    }

    /// A body is a slice of the bytes read from the socket, unless it is a small part of them: then it is copied, so that a retained
    /// message does not retain everything that arrived with it.
    private func body(_ start: Start) throws(FrameError) -> Frame? {
        guard start.channel != 0 else { throw .contentOnChannelZero }
        guard let payload = payload(start, from: 0) else { return nil }
        guard payload.readableBytes < buffer.storageCapacity / 4 else { return .body(channel: start.channel, payload) }
        return .body(channel: start.channel, ByteBuffer(buffer: payload))
    }
}

/// The frame types of AMQP 0-9-1.
private enum FrameKind: UInt8 {
    case method = 1
    case header = 2
    case body = 3
    case heartbeat = 8
}
