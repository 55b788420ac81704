#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// A connected pair of local stream sockets: one end for this process, the other for a child process.
///
/// Both are close-on-exec, so that no other child of this process inherits an end and keeps it open after this process has ended. A socket
/// instead of a pipe, because a write to a closed peer can fail instead of raising SIGPIPE. Both numbers are above those they get in a
/// child.
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
        // Not a low number: the child's end is duplicated to 0 or 3, and a dup onto itself would leave it close-on-exec.
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

    /// Sends a short text to the child, completely or not at all; a child that has ended is not an error.
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
