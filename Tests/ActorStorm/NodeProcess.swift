import Foundation
import Synchronization

/// A node in a process of its own.
final class NodeProcess: Sendable {
    struct NotReady: Error {}

    let pid: pid_t
    /// Its name when it was ready.
    let name: String
    private let process: Mutex<Process>

    /// This program.
    static func ownExecutable() throws -> URL {
        URL(filePath: try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
    }

    /// Another program of this package, for the tests.
    static func beside(_ name: String) throws -> URL {
        try ownExecutable().deletingLastPathComponent().appending(path: name)
    }

    /// Starts one, and returns when it is ready.
    static func start(
        url: String,
        folder: URL,
        shards: Int,
        quorum: Bool,
        heartbeat: Int = 10,
        executable: URL? = nil
    ) async throws -> NodeProcess {
        let process = Process()
        process.executableURL = try executable ?? ownExecutable()
        process.arguments =
            [
                "node", "--url", url, "--folder", folder.path, "--shards", "\(shards)", "--heartbeat", "\(heartbeat)",
            ] + (quorum ? ["--quorum"] : [])
        let output = Pipe()
        process.standardOutput = output
        let errors = folder.appending(path: "\(UUID().uuidString).err")
        _ = FileManager.default.createFile(atPath: errors.path, contents: nil)
        process.standardError = try FileHandle(forWritingTo: errors)
        try process.run()
        let handle = output.fileHandleForReading
        let line = await withCheckedContinuation { continuation in
            // Nothing but the one line comes.
            Thread.detachNewThread { continuation.resume(returning: handle.availableData) }
        }
        let words = String(decoding: line, as: UTF8.self).split(whereSeparator: \.isWhitespace)
        guard words.count == 2, words[0] == "ready" else {
            _ = kill(process.processIdentifier, SIGKILL)
            throw NotReady()
        }
        return NodeProcess(process, String(words[1]))
    }

    private init(_ process: Process, _ name: String) {
        pid = process.processIdentifier
        self.name = name
        self.process = Mutex(process)
    }

    var isRunning: Bool { process.withLock { $0.isRunning } }

    func signal(_ number: Int32) {
        process.withLock { if $0.isRunning { _ = kill($0.processIdentifier, number) } }
    }

    /// Waits for its end; after the timeout it is killed.
    /// Returns whether it ended by itself.
    @discardableResult
    func ended(within timeout: Duration) async -> Bool {
        let deadline = ContinuousClock.now + timeout
        while isRunning, ContinuousClock.now < deadline { try? await Task.sleep(for: .milliseconds(20)) }
        defer { signal(SIGKILL) }
        return !isRunning
    }
}
