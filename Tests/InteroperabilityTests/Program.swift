import Foundation
import Synchronization
import Testing

/// A program that runs beside a test: one of the folder `Python`, or the tool.
final class Program: Sendable {
    /// The interpreter; `nil` where none has pika. `scripts/bootstrap --tests` installs it.
    static let interpreter: String? = ["/usr/bin/python3", "/usr/local/bin/python3", "/opt/homebrew/bin/python3"]
        .first { path in
            guard FileManager.default.isExecutableFile(atPath: path) else { return false }
            let process = Process()
            process.executableURL = URL(filePath: path)
            process.arguments = ["-c", "import pika"]
            process.standardError = FileHandle.nullDevice
            guard (try? process.run()) != nil else { return false }
            process.waitUntilExit()
            return process.terminationStatus == 0
        }

    /// The tool, which stands beside the tests; `nil` where it is not known where they stand.
    static var tool: String? {
        let tests = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        return tests.map { URL(filePath: $0).deletingLastPathComponent().appending(path: "rpc").path }
    }

    struct Silent: Error, CustomStringConvertible {
        let description: String
    }

    private struct State {
        var lines: [String] = []
        var isOver = false
        var waiter: CheckedContinuation<Void, Never>?
    }

    private let name: String
    private let process: Mutex<Process>
    private let input: FileHandle
    private let state = Mutex(State())

    /// A program of the folder `Python`.
    convenience init(_ name: String, _ arguments: [String] = [], url: String) throws {
        let script = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Python/\(name).py").path
        try self.init(name, try #require(Self.interpreter), [script] + arguments, url: url)
    }

    /// The tool.
    convenience init(tool arguments: [String], url: String) throws {
        try self.init("rpc", try #require(Self.tool), arguments, url: url)
    }

    private init(_ name: String, _ executable: String, _ arguments: [String], url: String) throws {
        self.name = name
        let process = Process()
        process.executableURL = URL(filePath: executable)
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(["AMQP_URL": url]) { $1 }
        let (input, output) = (Pipe(), Pipe())
        process.standardInput = input
        process.standardOutput = output
        try process.run()
        self.process = Mutex(process)
        self.input = input.fileHandleForWriting
        let handle = output.fileHandleForReading
        Thread.detachNewThread { [self] in
            var rest = Data()
            while true {
                let data = handle.availableData
                if data.isEmpty { break }
                rest.append(data)
                while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                    let line = String(decoding: rest[rest.startIndex..<end], as: UTF8.self)
                    rest = Data(rest[rest.index(after: end)...])
                    change { $0.lines.append(line) }
                }
            }
            change { $0.isOver = true }
        }
    }

    /// The next line that it prints, which has to come within a minute.
    func line() async throws -> String {
        let timer = Task {
            try await Task.sleep(for: .seconds(60))
            // Its end alone may not end its output: programs that were started at the same time hold on to the pipe.
            change { $0.isOver = true }
        }
        defer { timer.cancel() }
        while true {
            let line = try state.withLock { state -> String? in
                if !state.lines.isEmpty { return state.lines.removeFirst() }
                if state.isOver { throw Silent(description: "\(name) said nothing more") }
                return nil
            }
            if let line { return line }
            await withCheckedContinuation { continuation in
                let isDue = state.withLock { state in
                    if !state.lines.isEmpty || state.isOver { return true }
                    state.waiter = continuation
                    return false
                }
                if isDue { continuation.resume() }
            }
        }
    }

    /// Gives it a line to read.
    func say(_ line: String) throws {
        try input.write(contentsOf: Data((line + "\n").utf8))
    }

    /// Ends it at once.
    func kill() {
        process.withLock { process in
            if process.isRunning { process.terminate() }
        }
    }

    private func change(_ body: (inout State) -> Void) {
        let waiter = state.withLock { state in
            body(&state)
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume()
    }
}

/// Runs a program while `body` does, after it has said that it is ready.
func whileRunning(
    _ name: String,
    _ arguments: [String] = [],
    url: String,
    _ body: (Program) async throws -> Void
) async throws {
    let program = try Program(name, arguments, url: url)
    defer { program.kill() }
    #expect(try await program.line() == "ready")
    try await body(program)
}
