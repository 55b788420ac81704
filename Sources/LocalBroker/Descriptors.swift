#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A connected pair of local stream sockets: one end stays here, the other goes to a child process.
///
/// Both are close-on-exec, so that no other child of this process inherits an end by accident and keeps it open when
/// this process is gone. A socket and not a pipe, since a write to one whose reader is gone can be made to fail instead
/// of raising SIGPIPE. Both numbers are above those a child is given them as.
struct DescriptorPair {
    let here: CInt
    let child: CInt

    init() throws(LocalBrokerError) {
        var pair: (CInt, CInt) = (-1, -1)
        let result = withUnsafeMutableBytes(of: &pair) { bytes in
            #if canImport(Glibc)
            let kind = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
            #elseif canImport(Musl)
            let kind = SOCK_STREAM | SOCK_CLOEXEC
            #else
            let kind = SOCK_STREAM
            #endif
            return socketpair(AF_UNIX, kind, 0, bytes.assumingMemoryBound(to: CInt.self).baseAddress)
        }
        guard result == 0 else { throw .cannotPrepare(path: "a socket pair", reason: String(cString: strerror(errno))) }
        defer {
            _ = close(pair.0)
            _ = close(pair.1)
        }
        // Not among the low numbers: the child's end is dup'ed to 0 or 3 there, and a dup onto itself would leave it
        // close-on-exec.
        let here = fcntl(pair.0, F_DUPFD_CLOEXEC, 10)
        let child = fcntl(pair.1, F_DUPFD_CLOEXEC, 10)
        guard here >= 0, child >= 0 else {
            let reason = String(cString: strerror(errno))
            if here >= 0 { _ = close(here) }
            if child >= 0 { _ = close(child) }
            throw .cannotPrepare(path: "a socket pair", reason: reason)
        }
        #if canImport(Darwin)
        var on: CInt = 1
        setsockopt(here, SOL_SOCKET, SO_NOSIGPIPE, &on, socklen_t(MemoryLayout<CInt>.size))
        #endif
        self.here = here
        self.child = child
    }

    /// Writes a short text to the child, all of it or nothing; a child that is gone is not an error.
    static func send(_ text: String, to descriptor: CInt) {
        #if canImport(Darwin)
        let flags: CInt = 0
        #else
        let flags = CInt(MSG_NOSIGNAL)
        #endif
        var text = text
        text.withUTF8 { bytes in
            _ = systemSend(descriptor, bytes.baseAddress, bytes.count, flags)
        }
    }
}

private func systemSend(_ descriptor: CInt, _ bytes: UnsafePointer<UInt8>?, _ count: Int, _ flags: CInt) -> Int {
    #if canImport(Darwin)
    Darwin.send(descriptor, bytes, count, flags)
    #elseif canImport(Glibc)
    Glibc.send(descriptor, bytes, count, flags)
    #elseif canImport(Musl)
    Musl.send(descriptor, bytes, count, flags)
    #endif
}
