import NIOCore
import Synchronization

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// Cleans up after a broker whatever happens to the process that owns it, including `kill -9`.
///
/// A shell that reads its standard input, a socket whose other end only this process has. Each node is registered with it before the node
/// may run. When the socket is closed, by the owner or because the owner has ended, it kills the node with its group, and removes the
/// broker's folder. It ignores terminal signals.
final class CleanupWatchdog: Sendable {
    private let process: SpawnedProcess
    /// Our end of the socket; `nil` once closed.
    private let parentPipe: Mutex<CInt?>

    /// Starts watching; the folder need not exist yet. With `keepsFiles`, the folder is not removed.
    init(folder: String, keepsFiles: Bool) throws(LocalBrokerError) {
        let pair = try DescriptorPair()
        defer { _ = close(pair.child) }
        do {
            self.process = try SpawnedProcess(
                "/bin/sh",
                ["-c", Self.script, "local-broker-watchdog", folder, keepsFiles ? "keep" : "remove"],
                environment: ["PATH": "/usr/bin:/bin"],
                output: nil,
                descriptor: (ours: pair.child, childs: 0)
            )
        } catch {
            _ = close(pair.here)
            throw error
        }
        self.parentPipe = Mutex(pair.here)
    }

    deinit { release() }

    /// Registers a process to kill at the end. Returns when the watchdog will receive it.
    func adopt(_ id: pid_t) { send("started \(id)\n") }

    /// Unregisters a process that has ended, because its number may soon be reused.
    func release(_ id: pid_t) { send("ended \(id)\n") }

    /// Starts the clean-up, as if this process had ended. `ended` tells when it is complete.
    func release() {
        parentPipe.withLock { parentPipe in
            if let descriptor = parentPipe { _ = close(descriptor) }
            parentPipe = nil
        }
    }

    /// Succeeds when the clean-up is complete.
    var ended: EventLoopFuture<ExitStatus> { process.ended }

    private func send(_ line: String) {
        parentPipe.withLock { parentPipe in
            if let descriptor = parentPipe { DescriptorPair.send(line, to: descriptor) }
        }
    }

    /// POSIX shell: available on every system, at 1 MB.
    static let script = """
        folder=$1 keep=$2 nodes=
        trap '' HUP INT QUIT TERM TSTP
        cd /
        while read -r verb id; do
            case $verb in
            started) nodes="$nodes $id" ;;
            ended)
                others=
                for node in $nodes; do [ "$node" = "$id" ] || others="$others $node"; done
                nodes=$others ;;
            esac
        done
        for node in $nodes; do kill -s KILL -- "-$node"; done
        [ "$keep" = keep ] && exit 0
        # What was killed may take a moment to be gone, and can write until then.
        for attempt in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
            alive=
            for node in $nodes; do kill -s 0 -- "-$node" && alive=yes; done
            rm -rf -- "$folder" && [ -z "$alive" ] && exit 0
            sleep 0.1
        done
        rm -rf -- "$folder"
        """
}
