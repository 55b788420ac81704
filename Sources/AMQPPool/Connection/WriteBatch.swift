import NIOCore

/// Collects what is written at the end of a tick, and lets one write at a time onto the socket.
///
/// Nothing is handed to the socket while it has not taken the write before completely. So what is still in an outbox when
/// the connection ends was certainly not sent, and only what was encoded is in doubt. The memory of the write before last is
/// used again.
struct WriteBatch {
    /// From this many bytes on no more messages are encoded before what is there was written.
    static let limit = 1 << 20

    private var filling = ByteBuffer()
    private var writing = ByteBuffer()
    private(set) var isWriting = false

    /// Whether there is room for messages. Other methods are always taken: they are few.
    var hasRoom: Bool { !isWriting && filling.readableBytes < Self.limit }

    /// The bytes that wait to be written.
    var size: Int { filling.readableBytes }

    /// Whether something waits to be written, and may be.
    var isDue: Bool { !isWriting && filling.readableBytes > 0 }

    /// Encodes into the batch.
    mutating func append<Failure: Error>(_ encode: (inout ByteBuffer) throws(Failure) -> Void) throws(Failure) {
        try encode(&filling)
    }

    /// What to write now, until ``finished()``; nil if nothing is due.
    mutating func begin() -> ByteBuffer? {
        guard isDue else { return nil }
        isWriting = true
        swap(&filling, &writing)
        if filling.capacity > 2 * Self.limit { filling = ByteBuffer() } else { filling.clear() }
        return writing
    }

    /// The socket has taken the write completely.
    mutating func finished() {
        isWriting = false
    }
}
