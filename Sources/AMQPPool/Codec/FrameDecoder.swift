import NIOCore

/// Reads AMQP frames from bytes as they arrive (AMQP 0-9-1, section 2.3).
///
/// Everything it is given is taken to be hostile: bytes that are cut off, too large, contradictory or random lead to `nil`,
/// to a refused message (``Frame/header(channel:bodySize:_:)``) or to a ``FrameError``, never to a trap or a read outside of
/// the frame. Memory is bounded by ``maximumFrameSize`` plus what one read from the socket brings.
///
/// Text that is not UTF-8: what only people read (reply texts, reasons, mechanisms, locales) is repaired with U+FFFD. Names, ids,
/// routing keys, the keys of tables and all other properties are kept byte for byte: see ``ShortString``.
///
/// Not thread-safe: it belongs to one connection.
final class FrameDecoder {
    /// How many levels deep tables and arrays may be nested, the outermost table included.
    static let maximumNesting = 16
    /// How many values a table may have, those nested in it included. librabbitmq allocates up to 40 bytes for one that
    /// takes one byte on the wire; this keeps the memory for one frame below 2 MB.
    static let maximumFields = 8192

    /// The largest frame to accept, with its 8 bytes of framing. Less than 4096 counts as 4096, which AMQP demands.
    var maximumFrameSize: UInt32 {
        get { reader.maximumFrameSize }
        set { reader.maximumFrameSize = max(newValue, FrameEncoder.minimumFrameSize) }
    }

    private var reader: FrameReader

    /// A decoder that accepts frames of at most this size, with their 8 bytes of framing.
    init(maximumFrameSize: UInt32) {
        reader = FrameReader(maximumFrameSize: max(maximumFrameSize, FrameEncoder.minimumFrameSize))
    }

    /// Takes what was read from the socket. Read all frames before appending more.
    func append(_ bytes: ByteBuffer) {
        reader.append(bytes)
    }

    /// The next frame, or `nil` if it has not arrived completely. After a throw the connection must be closed.
    func next() throws(FrameError) -> Frame? {
        try reader.next()
    }

    /// Appends the next frames, as long as they are of one channel, and at most so many: none, when none has arrived completely. After a
    /// throw the connection must be closed; what was appended before counts.
    func next(_ most: Int, into frames: inout [Frame]) throws(FrameError) {
        try reader.next(most, into: &frames)
    }
}
