/// A hash that is the same in every process and version: it maps keys to shards and shards to nodes, so it is part of the wire protocol.
/// `Hasher` has another seed in each process.
enum StableHash {
    /// FNV-1a over the bytes, and the finalizer of MurmurHash3, without which short keys share their low bits.
    static func value(_ text: String) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        hash ^= hash >> 33
        hash &*= 0xff51_afd7_ed55_8ccd
        hash ^= hash >> 33
        hash &*= 0xc4ce_b9fe_1a85_ec53
        hash ^= hash >> 33
        return hash
    }

    /// The same as sixteen hexadecimal digits: one word of a routing key, for any text.
    static func hex(_ text: String) -> String {
        let digits = String(value(text), radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
