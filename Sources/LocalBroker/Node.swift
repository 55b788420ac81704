import Foundation
import NIOCore

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// One run of the broker, from the start of its operating system process to its end.
final class Node: Sendable {
    let process: SpawnedProcess
    let control: ControlLink

    /// Starts the process; RabbitMQ has not booted when this returns. See ``waitUntilReady(within:folder:)``.
    ///
    /// The process first waits, as a shell, until the watchdog knows its id: if we are killed in between, it sees the end of the socket,
    /// and ends.
    init(_ installation: Installation, folder: NodeFolder, watchdog: CleanupWatchdog) async throws(LocalBrokerError) {
        let pair = try DescriptorPair()
        defer { _ = close(pair.child) }
        let process: SpawnedProcess
        do {
            process = try SpawnedProcess(
                "/bin/sh",
                [
                    "-c", #"cd "$HOME" && read -r go <&3 && [ "$go" = go ] && exec "$@""#, "local-broker",
                    installation.server,
                ]
                    + folder.arguments(),
                environment: folder.environment(),
                output: folder.console,
                descriptor: (ours: pair.child, childs: 3),
                // Weak, because releasing the watchdog is what ends this very process.
                onEnd: { [weak watchdog] in watchdog?.release($0) }
            )
        } catch {
            _ = close(pair.here)
            throw error
        }
        watchdog.adopt(process.id)
        self.process = process
        do {
            control = try await ControlLink(descriptor: pair.here)
        } catch {
            process.signal(SIGKILL)
            throw error
        }
        control.begin()
    }

    /// Waits until RabbitMQ accepts connections, and returns its versions. On any failure the process is killed.
    func waitUntilReady(
        within duration: Duration,
        folder: NodeFolder
    ) async throws(LocalBrokerError) -> NodeVersions {
        do {
            return try await control.ready.value(within: duration, orThrow: .startTimedOut(after: duration, log: ""))
        } catch {
            process.signal(SIGKILL)
            let status = await process.exitStatus()
            switch error {
            case .startTimedOut: throw .startTimedOut(after: duration, log: folder.lastLines())
            case .notRunning: throw .startFailed(status, log: folder.lastLines())
            case .notInstalled, .invalidOption, .cannotPrepare, .cannotSpawn, .portInUse, .startFailed,
                .endedUnexpectedly, .alreadyRunning, .shutDown, .requestTimedOut, .requestFailed, .cancelled:
                throw error
            }
        }
    }

    /// Asks it to stop, and kills it after `duration`.
    func stop(within duration: Duration) async {
        process.signal(SIGCONT)
        process.signal(SIGTERM)
        do {
            _ = try await process.ended.value(within: duration, orThrow: .notRunning, cancellable: false)
        } catch {
            await kill()
        }
    }

    /// Kills it; returns when it has ended.
    func kill() async {
        process.signal(SIGKILL)
        _ = await process.exitStatus()
    }
}

extension SpawnedProcess {
    /// Waits for the end, even in a cancelled task: for processes that have been killed.
    func exitStatus() async -> ExitStatus {
        await withCheckedContinuation { continuation in
            ended.whenSuccess { continuation.resume(returning: $0) }
        }
    }
}
