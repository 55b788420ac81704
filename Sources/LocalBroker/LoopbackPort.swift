import Synchronization

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Finds a port of 127.0.0.1 that nobody listens on.
enum LoopbackPort {
    /// Below the kernel's ports for outgoing connections (from 32768 on Linux, 49152 on macOS). A client that keeps trying to reach a
    /// stopped broker on a port of that range would eventually get the same port as its own and connect to itself, and the broker could not
    /// get its port back.
    static let range: Range<UInt16> = 20_000..<32_000

    /// The ports given out. A proxy that refuses connections, or a broker that is down, does not listen but will need its port again:
    /// within this process nobody else gets it. Cleared when half of the range has been given out.
    private static let given = Mutex<Set<UInt16>>([])

    /// A random free port. It is not reserved: another process may take it before it is used.
    static func free(except other: Int? = nil) throws(LocalBrokerError) -> Int {
        for _ in 0..<64 {
            let port = UInt16.random(in: range)
            let isNew = given.withLock { given in
                if given.count > range.count / 2 { given.removeAll() }
                return given.insert(port).inserted
            }
            if isNew, Int(port) != other, try isFree(port) { return Int(port) }
        }
        throw .portInUse(Int(range.lowerBound))
    }

    /// - Throws: `invalidOption` if the port is invalid.
    static func check(_ port: Int?, option name: String) throws(LocalBrokerError) {
        guard let port, !(1...65_535).contains(port) else { return }
        throw .invalidOption(name: name, reason: "must be 1 to 65535, but is \(port)")
    }

    /// - Throws: `cannotPrepare` when no socket can be created for the check.
    static func isFree(_ port: UInt16, reusing: Bool = false) throws(LocalBrokerError) -> Bool {
        guard let descriptor = try bound(to: port, reusing: reusing) else { return false }
        close(descriptor)
        return true
    }

    /// A socket bound to the port; `nil` when the port is taken. It is close-on-exec: a program that inherited it would keep the port
    /// taken, and accept connections that nobody answers.
    ///
    /// - Throws: `cannotPrepare` when no socket can be created.
    static func bound(to port: UInt16, reusing: Bool) throws(LocalBrokerError) -> CInt? {
        #if canImport(Darwin)
        let descriptor = socket(AF_INET, SOCK_STREAM, 0)
        #elseif canImport(Musl)
        let descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)
        #else
        // Atomically, because another thread may start a program at any time.
        let descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        #endif
        guard descriptor >= 0 else {
            throw .cannotPrepare(path: "a socket", reason: String(cString: strerror(errno)))
        }
        #if canImport(Darwin)
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
        #endif
        if reusing {
            var on: CInt = 1
            setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<CInt>.size))
        }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let isBound = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                bind(descriptor, address, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
            }
        }
        guard isBound else {
            close(descriptor)
            return nil
        }
        return descriptor
    }
}
