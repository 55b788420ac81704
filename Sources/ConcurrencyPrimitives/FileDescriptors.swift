import Synchronization

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Reserves the file descriptors that libdispatch and SwiftNIO's event loops open on first use. Both end the OS process when they cannot
/// open them, so code that may be the first to use them checks here before, and fails with an error instead.
package enum FileDescriptors {
    /// An event loop has one for its events, one for wake-ups and one for its timers.
    private static let perEventLoop = 3
    /// The same for libdispatch, with a timer for each of its clocks, and a few that others may open in the meantime.
    private static let others = 8

    private static let isPrepared = Mutex(false)

    /// Opens what every OS process needs descriptors for, if enough are left. After a success it is not checked again.
    ///
    /// - Parameters:
    ///   - eventLoops: The number of event loops that `start` creates.
    ///   - start: Creates them.
    /// - Returns: The system's error (`EMFILE`, `ENFILE`) if too few are left; then nothing was opened.
    package static func prepare(eventLoops: Int, _ start: () -> Void) -> CInt? {
        isPrepared.withLock { isPrepared in
            if isPrepared { return nil }
            if let error = shortage(of: max(1, eventLoops) * perEventLoop + others) { return error }
            _ = SystemTimers.shared.schedule(after: .zero) {}
            start()
            isPrepared = true
            return nil
        }
    }

    /// The error of the first of this many descriptors that cannot be opened.
    private static func shortage(of count: Int) -> CInt? {
        var opened: [CInt] = []
        defer { for descriptor in opened { _ = close(descriptor) } }
        while opened.count < count {
            let descriptor = anySocket()
            guard descriptor >= 0 else { return errno }
            opened.append(descriptor)
        }
        return nil
    }

    /// Created close-on-exec, because another thread may start a program at any time.
    private static func anySocket() -> CInt {
        #if canImport(Darwin)
        let descriptor = socket(AF_UNIX, SOCK_STREAM, 0)
        if descriptor >= 0 { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
        return descriptor
        #elseif canImport(Musl)
        return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)
        #else
        return socket(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        #endif
    }
}
