import NIOCore

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

extension NIOCore.Channel {
    /// Keeps the socket from being inherited by child OS processes. An inherited socket would keep the connection open after the end of
    /// this process, and the broker would keep its deliveries until heartbeats fail.
    ///
    /// Called on the channel's event loop.
    package func closeOnExec() throws {
        try pipeline.syncOperations.withUnsafeTransportIfAvailable(of: NIOBSDSocket.Handle.self) { descriptor in
            let flags = fcntl(descriptor, F_GETFD)
            if flags >= 0 { _ = fcntl(descriptor, F_SETFD, flags | FD_CLOEXEC) }
        }
    }
}
