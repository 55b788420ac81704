import Synchronization

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// The file descriptors that libdispatch and SwiftNIO's event loops open when they are first used. Both end the process when they
/// cannot have them, so whoever may be the first to use them asks here before, and fails with an error instead.
package enum FileDescriptors {
    /// An event loop has one for its events, one to be woken by and one for its timers.
    private static let perEventLoop = 3
    /// The same for libdispatch, with a timer for each of its clocks, and a few that others may open meanwhile.
    private static let others = 8

    private static let isPrepared = Mutex(false)

    /// Has what needs descriptors in every process open them now, if enough are left. Once that was so it is not asked again.
    ///
    /// - Parameters:
    ///   - eventLoops: How many event loops `start` makes.
    ///   - start: Makes them.
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

    /// The error of the first that cannot be opened of so many.
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

    /// Closed in programs that this process starts, at once, for another thread may start one at any time.
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
