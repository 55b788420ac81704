import NIOCore

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

extension NIOCore.Channel {
    /// Keeps the socket from processes that this one starts. One that inherits it keeps the connection open after the end of this
    /// process, and the broker keeps what was delivered on it, until heartbeats fail.
    ///
    /// On the channel's event loop.
    package func closeOnExec() throws {
        try pipeline.syncOperations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) { descriptor in
            let flags = fcntl(descriptor, F_GETFD)
            if flags >= 0 { _ = fcntl(descriptor, F_SETFD, flags | FD_CLOEXEC) }
        }
    }
}
