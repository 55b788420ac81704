import Synchronization

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The system's random numbers, fetched in blocks: one system call for 16 ids, instead of two calls per id by
/// `SystemRandomNumberGenerator`. Numbers are erased as soon as they are used, so the block reveals nothing about existing ids.
enum RandomBits {
    /// `getentropy` returns at most 256 bytes at once.
    private static let count = 32

    private static let block = Mutex<[UInt64]>([])

    static func pair() -> (UInt64, UInt64) {
        block.withLock { words in
            if words.count < 2 { fill(&words) }
            return (words.removeLast(), words.removeLast())
        }
    }

    private static func fill(_ words: inout [UInt64]) {
        words = Array(repeating: 0, count: count)
        let status = words.withUnsafeMutableBytes { bytes in
            bytes.baseAddress.map { getentropy($0, bytes.count) } ?? -1
        }
        guard status != 0 else { return }
        // For a kernel that does not have the call, or forbids it.
        var generator = SystemRandomNumberGenerator()
        for index in words.indices { words[index] = generator.next() }
    }
}
