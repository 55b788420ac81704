import Synchronization

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A port of 127.0.0.1 nobody listens on.
enum LoopbackPort {
    /// Below the ports the kernel gives to outgoing connections (from 32768 on Linux, 49152 on macOS). A client that
    /// keeps trying to reach a stopped broker on a port of that range is, sooner or later, given the very same port as
    /// its own, connects to itself, and the broker cannot have its port back.
    static let range: Range<UInt16> = 20_000..<32_000

    /// Those that were given out. A proxy that refuses connections, or a broker that is down, listens on none and wants its
    /// own again: within this process nobody else gets it. Forgotten when half of the range is given out.
    private static let given = Mutex<Set<UInt16>>([])

    /// A free one, at random. It is not reserved: another process may take it before it is used.
    static func free(except other: Int? = nil) throws(LocalBrokerError) -> Int {
        for _ in 0..<64 {
            let port = UInt16.random(in: range)
            let isNew = given.withLock { given in
                if given.count > range.count / 2 { given.removeAll() }
                return given.insert(port).inserted
            }
            if isNew, Int(port) != other, isFree(port) { return Int(port) }
        }
        throw .portInUse(Int(range.lowerBound))
    }

    static func isFree(_ port: UInt16, reusing: Bool = false) -> Bool {
        #if canImport(Glibc)
        let stream = Int32(SOCK_STREAM.rawValue)
        #else
        let stream = SOCK_STREAM
        #endif
        let descriptor = socket(AF_INET, stream, 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        if reusing {
            var on: CInt = 1
            setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<CInt>.size))
        }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(descriptor, address, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
    }
}
