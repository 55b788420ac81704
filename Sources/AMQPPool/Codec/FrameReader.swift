import CRabbitMQ
import NIOCore

/// What a ``FrameDecoder`` does, as a value: so the checks of exclusive access cost once a frame, not at every step.
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
        guard let start = peekHeader() else { return nil }
        return try frame(start)
    }

    /// Appends the next frames, as long as they are of one channel, and at most so many.
    mutating func next(_ most: Int, into frames: inout [Frame]) throws(FrameError) {
        var channel: UInt16?
        for _ in 0..<most {
            guard let start = peekHeader(), start.channel == channel ?? start.channel, let frame = try frame(start)
            else { return }
            channel = start.channel
            frames.append(frame)
        }
    }

    /// The frame that begins so, if it is all there.
    private mutating func frame(
        _ start: (type: UInt8, channel: UInt16, size: UInt32)
    ) throws(FrameError) -> Frame? {
        let (type, channel, size) = start
        guard let kind = FrameKind(rawValue: type) else { return try refuse(type: type) }
        let total = UInt64(size) + UInt64(FrameEncoder.overhead)
        guard total <= UInt64(maximumFrameSize) else {
            throw .oversized(bytes: total, limit: maximumFrameSize)
        }
        guard buffer.readableBytes >= Int(total) else { return nil }

        buffer.moveReaderIndex(forwardBy: FrameEncoder.overhead - 1)
        guard let payload = buffer.readSlice(length: Int(size)), let end = buffer.readInteger(as: UInt8.self) else {
            return nil
        }
        guard end == UInt8(AMQP_FRAME_END) else { throw .missingFrameEnd(found: end) }
        switch kind {
        case .method: return try method(payload, channel: channel)
        case .header: return try header(payload, channel: channel)
        case .body: return try body(payload, channel: channel)
        case .heartbeat:
            guard channel == 0, size == 0 else { throw .malformedHeartbeat }
            return .heartbeat
        }
    }

    /// The seven bytes before a payload.
    private func peekHeader() -> (type: UInt8, channel: UInt16, size: UInt32)? {
        // A whole frame has at least eight, which are read at once: a buffer checks each access.
        guard let prefix = buffer.getInteger(at: buffer.readerIndex, as: UInt64.self) else {
            return buffer.peekMultipleIntegers(as: (UInt8, UInt16, UInt32).self)
        }
        let header = (UInt8(truncatingIfNeeded: prefix >> 56), UInt16(truncatingIfNeeded: prefix >> 40))
        return (header.0, header.1, UInt32(truncatingIfNeeded: prefix >> 8))
    }

    private func refuse(type: UInt8) throws(FrameError) -> Frame? {
        guard type == UInt8(ascii: "A") else { throw .unknownType(type) }
        guard let header = buffer.getBytes(at: buffer.readerIndex, length: 8) else { return nil }
        guard header.starts(with: "AMQP".utf8) else { throw .unknownType(type) }
        throw .protocolRefused(identifier: header[4], major: header[5], minor: header[6], revision: header[7])
    }

    private mutating func method(_ payload: ByteBuffer, channel: UInt16) throws(FrameError) -> Frame {
        var arguments = payload
        guard let id = arguments.readInteger(as: UInt32.self) else { throw .malformedMethod(id: 0) }
        guard (id >> 16 == AMQP_CONNECTION_CLASS) == (channel == 0) else {
            throw .methodOnWrongChannel(id: id, channel: channel)
        }
        guard let method = decoder.method(id: id, arguments: arguments) else { throw .malformedMethod(id: id) }
        return .method(channel: channel, method)
    }

    private mutating func header(_ payload: ByteBuffer, channel: UInt16) throws(FrameError) -> Frame {
        guard channel != 0 else { throw .contentOnChannelZero }
        var properties = payload
        guard
            let (classID, _, bodySize) = properties.readMultipleIntegers(as: (UInt16, UInt16, UInt64).self),
            classID == UInt16(AMQP_BASIC_CLASS)
        else { throw .malformedHeader(channel: channel) }
        return .header(channel: channel, bodySize: bodySize, decoder.properties(properties))
    }

    /// A body is a slice of what was read from the socket, unless it is a small part of it: then it is a copy, so that a
    /// message that is kept does not keep all that arrived with it.
    private func body(_ payload: ByteBuffer, channel: UInt16) throws(FrameError) -> Frame {
        guard channel != 0 else { throw .contentOnChannelZero }
        guard payload.readableBytes < buffer.storageCapacity / 4 else { return .body(channel: channel, payload) }
        return .body(channel: channel, ByteBuffer(buffer: payload))
    }
}

/// The frame types of AMQP 0-9-1.
private enum FrameKind: UInt8 {
    case method = 1
    case header = 2
    case body = 3
    case heartbeat = 8
}
