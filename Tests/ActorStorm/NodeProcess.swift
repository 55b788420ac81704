import Foundation
import Synchronization

/// A node in a process of its own.
final class NodeProcess: Sendable {
    struct NotReady: Error {}

    let pid: pid_t
    private let process: Mutex<Process>

    /// Starts one, and returns when it is ready.
    static func start(url: String, folder: URL, shards: Int, quorum: Bool) async throws -> NodeProcess {
        let process = Process()
        process.executableURL = URL(
            filePath: try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        )
        process.arguments =
            ["node", "--url", url, "--folder", folder.path, "--shards", "\(shards)"] + (quorum ? ["--quorum"] : [])
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let handle = output.fileHandleForReading
        let node = NodeProcess(process)
        let isReady = await withCheckedContinuation { continuation in
            Thread.detachNewThread {
                // Nothing but the one line comes.
                let line = handle.availableData
                continuation.resume(returning: line.starts(with: Data("ready".utf8)))
            }
        }
        guard isReady else {
            node.signal(SIGKILL)
            throw NotReady()
        }
        return node
    }

    private init(_ process: Process) {
        pid = process.processIdentifier
        self.process = Mutex(process)
    }

    var isRunning: Bool { process.withLock { $0.isRunning } }

    func signal(_ number: Int32) {
        process.withLock { if $0.isRunning { _ = kill($0.processIdentifier, number) } }
    }

    /// Waits for its end; after the timeout it is killed.
    func ended(within timeout: Duration) async {
        let deadline = ContinuousClock.now + timeout
        while isRunning, ContinuousClock.now < deadline { try? await Task.sleep(for: .milliseconds(20)) }
        signal(SIGKILL)
    }
}
