import NIOCore

/// Decodes AMQP frames from bytes as they arrive (AMQP 0-9-1, section 2.3).
///
/// All input is considered hostile: truncated, oversized, contradictory or random bytes lead to `nil`, to a refused message
/// (``Frame/header(channel:bodySize:_:)``) or to a ``FrameError``, never to a trap or an out-of-bounds read. Memory is bounded by
/// ``maximumFrameSize`` plus the size of one read from the socket.
///
/// For text that is not UTF-8: fields that only people read (reply texts, reasons, mechanisms, locales) are repaired with U+FFFD. Names,
/// ids, routing keys, table keys and all other properties are preserved byte for byte: see ``ShortString``.
///
/// Not thread-safe: it belongs to one connection.
final class FrameDecoder {
    /// The maximum nesting depth of tables and arrays, including the outermost table.
    static let maximumNesting = 16
    /// The maximum number of values in a table, including nested ones. librabbitmq allocates up to 40 bytes for a value that takes one byte
    /// on the wire; this keeps the memory for one frame below 2 MB.
    static let maximumFields = 8192

    /// The largest accepted frame, including the 8 bytes of framing. Values below 4096 count as 4096, AMQP's minimum.
    var maximumFrameSize: UInt32 {
        get { reader.maximumFrameSize }
        set { reader.maximumFrameSize = max(newValue, FrameEncoder.minimumFrameSize) }
    }

    private var reader: FrameReader

    /// Creates a decoder with this maximum frame size, including the 8 bytes of framing.
    init(maximumFrameSize: UInt32) {
        reader = FrameReader(maximumFrameSize: max(maximumFrameSize, FrameEncoder.minimumFrameSize))
    }

    /// Appends bytes read from the socket. Decode all frames before appending more.
    func append(_ bytes: ByteBuffer) {
        reader.append(bytes)
    }

    /// The next frame, or `nil` if it has not arrived completely. After an error the connection must be closed.
    func next() throws(FrameError) -> Frame? {
        try reader.next()
    }

    /// Appends the next complete frames, at most `most`, as long as they belong to one channel. After an error the connection must be
    /// closed; frames appended before it are valid.
    func next(_ most: Int, into frames: inout [Frame]) throws(FrameError) {
        try reader.next(most, into: &frames)
    }
}
