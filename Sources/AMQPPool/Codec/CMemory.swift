import CRabbitMQ
import NIOCore

// This file contains all unsafe operations of the codec. Why they are safe:
//
// - `CMemory` is librabbitmq's own allocator. Its blocks are aligned to 8 bytes (no structure used here needs more) and stay in place until
//   `recycle()` or `deinit`. It is not copyable, so no block is freed twice.
// - Frames are written into `minimumWritableBytes` reserved bytes of a buffer, which cover the payload and everything before and after it.
// - Encoding: the structures passed to librabbitmq point only into these blocks, filled from Swift values with their actual length, and the
//   encoder recycles only at the start of the next message. librabbitmq writes at most the length it is given, which does not exceed the
//   free space of the buffer.
// - Decoding: librabbitmq's results point into the frame's bytes and into these blocks. `CDecoder` uses them only within the
//   `withUnsafeReadableBytes` of that frame, and returns copies. It reads a union's member only according to its `kind`, and properties
//   only according to their `_flags` (recycled blocks are not zeroed).
// - `TableCheck` validates every table before librabbitmq decodes it, so recursion and entry counts are bounded and `num_entries` entries
//   were written.

/// librabbitmq's block allocator: all allocations are freed together. Owned by one encoder or decoder.
struct CMemory: ~Copyable {
    private var pool = amqp_pool_t()

    init() {
        init_amqp_pool(&pool, 4096)
    }

    deinit {
        // The pool contains no pointer to itself, so a copy of its struct frees its blocks.
        var last = pool
        empty_amqp_pool(&last)
    }

    /// Frees all allocations. Keeps up to 16 pages (64 kB) for reuse.
    mutating func recycle() {
        if pool.pages.num_blocks > 16 {
            empty_amqp_pool(&pool)
        } else {
            recycle_amqp_pool(&pool)
        }
    }

    /// Runs one of librabbitmq's decoders. `nil` when it rejects the bytes.
    mutating func decode<Decoded>(
        _ bytes: UnsafeRawBufferPointer,
        as type: Decoded.Type,
        by decoder: (inout amqp_pool_t, amqp_bytes_t, inout UnsafeMutableRawPointer?) -> CInt
    ) -> Decoded? {
        let encoded = amqp_bytes_t(len: bytes.count, bytes: UnsafeMutableRawPointer(mutating: bytes.baseAddress))
        var decoded: UnsafeMutableRawPointer?
        guard decoder(&pool, encoded, &decoded) >= 0, let decoded else { return nil }
        return decoded.load(as: Decoded.self)
    }

    /// Uninitialized room for `count` values; `nil` for 0.
    mutating func allocate<Element>(
        _ count: Int,
        of type: Element.Type
    ) throws(EncodingError) -> UnsafeMutablePointer<Element>? {
        guard count > 0 else { return nil }
        let (bytes, overflow) = count.multipliedReportingOverflow(by: MemoryLayout<Element>.stride)
        guard !overflow, let block = amqp_pool_alloc(&pool, bytes) else { throw .outOfMemory }
        return block.bindMemory(to: Element.self, capacity: count)
    }

    /// A copy of these bytes.
    mutating func copy(_ bytes: UnsafeRawBufferPointer) throws(EncodingError) -> amqp_bytes_t {
        guard let source = bytes.baseAddress, let block = try allocate(bytes.count, of: UInt8.self) else {
            return amqp_bytes_t()
        }
        UnsafeMutableRawPointer(block).copyMemory(from: source, byteCount: bytes.count)
        return amqp_bytes_t(len: bytes.count, bytes: block)
    }

    /// A copy of a string's UTF-8.
    mutating func copy(_ string: String) throws(EncodingError) -> amqp_bytes_t {
        var string = string
        // The closures of the standard library do not support typed throws.
        let result = string.withUTF8 { utf8 -> Result<amqp_bytes_t, EncodingError> in
            do throws(EncodingError) {
                return .success(try copy(UnsafeRawBufferPointer(utf8)))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    /// A copy of an array's bytes.
    mutating func copy(_ array: [UInt8]) throws(EncodingError) -> amqp_bytes_t {
        let result = array.withUnsafeBytes { bytes -> Result<amqp_bytes_t, EncodingError> in
            do throws(EncodingError) {
                return .success(try copy(bytes))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }
}

extension ByteBuffer {
    /// Appends a frame: the beginning of its payload, and what one of librabbitmq's encoders writes after it, at most `limit` bytes.
    /// Returns `false` without appending anything when the encoder fails or there is not enough room.
    ///
    /// In one access, because a buffer checks each of them.
    ///
    /// - Parameters:
    ///   - first: The first four bytes of the payload.
    ///   - second: The next eight bytes, unless librabbitmq writes them.
    mutating func appendFrame<Value>(
        _ type: CInt,
        channel: UInt16,
        _ first: UInt32,
        then second: UInt64? = nil,
        _ value: Value,
        limit: Int,
        by encoder: (UnsafeMutableRawPointer, amqp_bytes_t) -> CInt
    ) -> Bool {
        var value = value
        var isEncoded = false
        let begin = FrameEncoder.overhead - 1 + 4 + (second == nil ? 0 : 8)
        writeWithUnsafeMutableBytes(minimumWritableBytes: begin + limit + 1) { space in
            guard let base = space.baseAddress else { return 0 }
            let room = min(limit, space.count - begin - 1)
            let status = withUnsafeMutableBytes(of: &value) { bytes in
                bytes.baseAddress.map { encoder($0, amqp_bytes_t(len: room, bytes: base + begin)) } ?? -1
            }
            guard status >= 0, Int(status) <= room else { return 0 }
            let end = begin + Int(status)
            space.storeBytes(of: UInt8(truncatingIfNeeded: type), as: UInt8.self)
            space.storeBytes(of: channel.bigEndian, toByteOffset: 1, as: UInt16.self)
            let size = UInt32(truncatingIfNeeded: end - FrameEncoder.overhead + 1)
            space.storeBytes(of: size.bigEndian, toByteOffset: 3, as: UInt32.self)
            space.storeBytes(of: first.bigEndian, toByteOffset: 7, as: UInt32.self)
            if let second { space.storeBytes(of: second.bigEndian, toByteOffset: 11, as: UInt64.self) }
            space.storeBytes(of: UInt8(AMQP_FRAME_END), toByteOffset: end, as: UInt8.self)
            isEncoded = true
            return end + 1
        }
        return isEncoded
    }

    /// Appends a frame with this payload.
    mutating func appendFrame(_ type: CInt, channel: UInt16, _ payload: ByteBuffer) {
        let begin = FrameEncoder.overhead - 1
        writeWithUnsafeMutableBytes(minimumWritableBytes: FrameEncoder.overhead + payload.readableBytes) { space in
            payload.withUnsafeReadableBytes { bytes in
                space.storeBytes(of: UInt8(truncatingIfNeeded: type), as: UInt8.self)
                space.storeBytes(of: channel.bigEndian, toByteOffset: 1, as: UInt16.self)
                let size = UInt32(truncatingIfNeeded: bytes.count)
                space.storeBytes(of: size.bigEndian, toByteOffset: 3, as: UInt32.self)
                UnsafeMutableRawBufferPointer(rebasing: space[begin...]).copyMemory(from: bytes)
                space.storeBytes(of: UInt8(AMQP_FRAME_END), toByteOffset: begin + bytes.count, as: UInt8.self)
                return begin + bytes.count + 1
            }
        }
    }
}

extension amqp_bytes_t {
    private var buffer: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: bytes, count: len) }

    /// Whether the bytes contain a NUL, or a byte that may begin an escape of ``ShortString``.
    var special: (containsNUL: Bool, mayHaveEscapes: Bool) {
        // Without a branch the loop is vectorized.
        var (nul, escape): (UInt8, UInt8) = (0, 0)
        for byte in buffer {
            nul |= byte == 0 ? 1 : 0
            escape |= byte == ShortString.firstByteOfEscapes ? 1 : 0
        }
        return (nul != 0, escape != 0)
    }

    /// Whether these are the same bytes.
    func isEqual(_ other: amqp_bytes_t) -> Bool {
        buffer.isEqual(other.buffer)
    }

    /// Whether these are the UTF-8 bytes of a text.
    func isEqual(_ text: String) -> Bool {
        guard text.utf8.count == len else { return false }
        return text.utf8.withContiguousStorageIfAvailable { buffer.isEqual(UnsafeRawBufferPointer($0)) }
            ?? text.utf8.elementsEqual(buffer)
    }

    /// A copy as text that preserves every byte: see ``ShortString``.
    var text: String {
        // Fast path: nearly all names and ids are ASCII.
        var (all, least) = (UInt8.min, UInt8.max)
        for byte in buffer {
            all |= byte
            least = min(least, byte)
        }
        return all & 0x80 == 0 && least > 0 ? repairedString : ShortString.text(of: buffer)
    }

    /// A copy as text, if it is UTF-8.
    var string: String? {
        // The validating initializer is not specialized for buffers; nearly all names and ids are ASCII.
        let isASCII = buffer.reduce(0, |) & 0x80 == 0
        return isASCII ? repairedString : String(validating: buffer.assumingMemoryBound(to: UInt8.self), as: UTF8.self)
    }

    /// A copy as readable text, with U+FFFD for invalid UTF-8.
    var repairedString: String { String(decoding: buffer, as: UTF8.self) }

    /// A copy of the bytes.
    var array: [UInt8] { Array(buffer) }
}

extension amqp_table_t {
    /// The entries as librabbitmq decoded them.
    var decodedEntries: UnsafeBufferPointer<amqp_table_entry_t> {
        UnsafeBufferPointer(start: entries, count: Int(num_entries))
    }
}

extension amqp_array_t {
    /// The values as librabbitmq decoded them.
    var decodedEntries: UnsafeBufferPointer<amqp_field_value_t> {
        UnsafeBufferPointer(start: entries, count: Int(num_entries))
    }
}

extension UnsafeRawBufferPointer {
    /// Whether both have the same bytes: compared by words, then by bytes. `elementsEqual` takes several times as long.
    fileprivate func isEqual(_ other: UnsafeRawBufferPointer) -> Bool {
        guard count == other.count else { return false }
        var offset = 0
        while offset + 8 <= count {
            let (left, right) = (
                loadUnaligned(fromByteOffset: offset, as: UInt64.self),
                other.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
            )
            guard left == right else { return false }
            offset += 8
        }
        while offset < count {
            guard self[offset] == other[offset] else { return false }
            offset += 1
        }
        return true
    }
}
