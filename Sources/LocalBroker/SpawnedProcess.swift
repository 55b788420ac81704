import Foundation
import NIOCore
import NIOPosix
import Synchronization

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// An operating system process of ours, the leader of its own process group.
///
/// It uses `posix_spawn` directly, because no closure-scoped API offers what a broker needs: to be killed at any time, from any thread,
/// with its whole group, and never by a number that belongs to another process by then.
final class SpawnedProcess: Sendable {
    let id: pid_t
    /// Succeeds with the exit status of the process; never fails.
    let ended: EventLoopFuture<ExitStatus>

    /// False from the moment the process was reaped. Signals are sent under this lock: until the process is reaped its number belongs to
    /// it, and cannot be reused.
    private let isOurs = Mutex(true)

    /// Starts a process with only the given environment and descriptor.
    ///
    /// Standard output and standard error are appended to the file `output`, or discarded. `descriptor` is one of ours, and its number in
    /// the child; standard input is `/dev/null`, unless it is that descriptor. `onEnd` runs on a separate thread when the process has
    /// ended, while its number is still reserved.
    init(
        _ executable: String,
        _ arguments: [String],
        environment: [String: String],
        output: String?,
        descriptor: (ours: CInt, childs: CInt),
        onEnd: (@Sendable (pid_t) -> Void)? = nil
    ) throws(LocalBrokerError) {
        let result = spawn(executable, arguments, environment, output: output ?? "/dev/null", descriptor: descriptor)
        guard result.error == 0 else {
            throw .cannotSpawn(executable: executable, reason: String(cString: strerror(result.error)))
        }
        let id = result.id
        let promise = MultiThreadedEventLoopGroup.singleton.next().makePromise(of: ExitStatus.self)
        self.id = id
        self.ended = promise.futureResult
        let thread = Thread { [self] in
            var information = siginfo_t()
            while waitid(P_PID, id_t(id), &information, WEXITED | WNOWAIT) == -1, errno == EINTR {}
            onEnd?(id)
            let status = isOurs.withLock { isOurs in
                var status: CInt = 0
                while waitpid(id, &status, 0) == -1, errno == EINTR {}
                isOurs = false
                return status
            }
            promise.succeed(ExitStatus(waitStatus: status))
        }
        thread.name = "wait-\(id)"
        thread.stackSize = 128 * 1024
        thread.start()
    }

    /// Sends a signal to the process and its group; does nothing when it has ended.
    func signal(_ signal: CInt) {
        isOurs.withLock { isOurs in
            guard isOurs else { return }
            _ = kill(-id, signal)
        }
    }

    /// Whether a pause signal has taken effect on the process, or it has ended. Sending the signal guarantees neither: the threads of a
    /// process stop one after another.
    var isStoppedOrEnded: Bool {
        isOurs.withLock { isOurs in
            guard isOurs else { return true }
            var information = siginfo_t()
            let result = waitid(P_PID, id_t(id), &information, WSTOPPED | WEXITED | WNOHANG | WNOWAIT)
            // No event is not an error, and leaves the structure unchanged.
            return result == 0 && information.si_signo != 0
        }
    }
}

private func spawn(
    _ executable: String,
    _ arguments: [String],
    _ environment: [String: String],
    output: String,
    descriptor: (ours: CInt, childs: CInt)
) -> (id: pid_t, error: CInt) {
    #if canImport(Darwin)
    var actions: posix_spawn_file_actions_t?
    var attributes: posix_spawnattr_t?
    #else
    var actions = posix_spawn_file_actions_t()
    var attributes = posix_spawnattr_t()
    #endif
    posix_spawn_file_actions_init(&actions)
    posix_spawnattr_init(&attributes)
    defer {
        posix_spawn_file_actions_destroy(&actions)
        posix_spawnattr_destroy(&attributes)
    }
    if descriptor.childs != 0 { posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0) }
    posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_APPEND, 0o600)
    posix_spawn_file_actions_adddup2(&actions, 1, 2)
    posix_spawn_file_actions_adddup2(&actions, descriptor.ours, descriptor.childs)

    // A separate process group: Ctrl-C in our terminal must be handled by us, and not kill the broker.
    let always = CInt(POSIX_SPAWN_SETSIGDEF) | CInt(POSIX_SPAWN_SETSIGMASK) | CInt(POSIX_SPAWN_SETPGROUP)
    posix_spawnattr_setpgroup(&attributes, 0)
    #if canImport(Darwin)
    let flags = always | CInt(POSIX_SPAWN_CLOEXEC_DEFAULT)
    #else
    let flags = always
    #endif
    #if canImport(Glibc)
    _ = closeFrom?(&actions, max(descriptor.childs, 2) + 1)
    #endif
    var signals = sigset_t()
    sigfillset(&signals)
    posix_spawnattr_setsigdefault(&attributes, &signals)
    sigemptyset(&signals)
    posix_spawnattr_setsigmask(&attributes, &signals)
    posix_spawnattr_setflags(&attributes, Int16(truncatingIfNeeded: flags))

    let argumentVector = ([executable] + arguments).map { strdup($0) }
    let environmentVector = environment.map { strdup("\($0.key)=\($0.value)") }
    defer { for string in argumentVector + environmentVector { free(string) } }
    var id: pid_t = 0
    let error = posix_spawn(&id, executable, &actions, &attributes, argumentVector + [nil], environmentVector + [nil])
    return (id, error)
}

#if canImport(Glibc)
/// `posix_spawn_file_actions_addclosefrom_np`, available in glibc since 2.34 and declared for GNU C only.
///
/// Not every descriptor of this process is close-on-exec. A client's socket inherited by a broker, for example, would stay open on the wire
/// after we close it.
private let closeFrom: (@convention(c) (UnsafeMutablePointer<posix_spawn_file_actions_t>, CInt) -> CInt)? = {
    dlsym(dlopen(nil, RTLD_NOW), "posix_spawn_file_actions_addclosefrom_np").map {
        unsafeBitCast($0, to: (@convention(c) (UnsafeMutablePointer<posix_spawn_file_actions_t>, CInt) -> CInt).self)
    }
}()
#endif
