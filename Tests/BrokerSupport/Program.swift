import Foundation
import Synchronization

/// A program that runs beside a test, which it tells and asks things line by line.
package final class Program: Sendable {
    package struct Silent: Error, CustomStringConvertible {
        package let description: String

        package init(description: String) {
            self.description = description
        }
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

    package init(
        _ name: String,
        _ executable: String,
        _ arguments: [String],
        environment: [String: String] = [:]
    ) throws {
        self.name = name
        let process = Process()
        process.executableURL = URL(filePath: executable)
        process.arguments = arguments
        process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
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
    package func line() async throws -> String {
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
    package func say(_ line: String) throws {
        try input.write(contentsOf: Data((line + "\n").utf8))
    }

    /// Nothing more is said to it.
    package func endInput() throws {
        try input.close()
    }

    /// Waits until its output has ended.
    package func ended() async {
        while (try? await line()) != nil {}
    }

    /// Ends it at once. Not by SIGTERM: a program inherits it if that is ignored here, as it is while something waits for it.
    package func kill() {
        process.withLock { process in
            if process.isRunning { _ = Foundation.kill(process.processIdentifier, SIGKILL) }
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
