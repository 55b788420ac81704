import Foundation
import Synchronization

/// OTP's own supervisor: an Erlang node of ours that reads scenarios and answers with traces.
///
/// The node has no name, opens no port, and ends with its standard input.
final class Oracle: Sendable {
    enum Failure: Error {
        case notInstalled
        case notCompiled(String)
        case ended
    }

    private struct State {
        var waiting: [CheckedContinuation<[String], any Error>] = []
        var hasEnded = false
    }

    private let state = Mutex(State())
    private let input: FileHandle

    /// One node for all who do not need one of their own; `nil` when there is no Erlang.
    static let shared: Oracle? = try? Oracle()

    /// Where `erl` and `erlc` are, `nil` when there is no Erlang on this machine.
    static let installation: (erl: URL, erlc: URL)? = {
        let folders = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map(String.init)
        func find(_ name: String) -> URL? {
            folders.map { URL(fileURLWithPath: $0).appendingPathComponent(name) }
                .first { FileManager.default.isExecutableFile(atPath: $0.path) }
        }
        guard let erl = find("erl"), let erlc = find("erlc") else { return nil }
        return (erl, erlc)
    }()

    init() throws {
        guard let (erl, erlc) = Oracle.installation else { throw Failure.notInstalled }
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
            "supervisor-oracle-\(UUID().uuidString)"
        )
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        let source = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("OTP/supervisor_oracle.erl")
        let compiler = Foundation.Process()
        compiler.executableURL = erlc
        compiler.arguments = ["-o", folder.path, source.path]
        try compiler.run()
        compiler.waitUntilExit()
        guard compiler.terminationStatus == 0 else { throw Failure.notCompiled(source.path) }

        let node = Foundation.Process()
        node.executableURL = erl
        // One scheduler: signals arrive in the order of their causes, and rest can be seen.
        node.arguments = ["-noshell", "+S", "1:1", "-pa", folder.path, "-s", "supervisor_oracle", "main"]
        let stdin = Pipe()
        let stdout = Pipe()
        node.standardInput = stdin
        node.standardOutput = stdout
        try node.run()
        input = stdin.fileHandleForWriting
        let output = stdout.fileHandleForReading
        let reader = Thread { [weak self] in
            var lines: [String] = []
            var rest = Data()
            while true {
                let data = output.availableData
                if data.isEmpty { break }
                rest.append(data)
                while let end = rest.firstIndex(of: UInt8(ascii: "\n")) {
                    let line = String(decoding: rest[rest.startIndex..<end], as: UTF8.self)
                    rest.removeSubrange(rest.startIndex...end)
                    if line == "ready" {
                        // The code is loaded: nothing is left behind, however the tests end.
                        try? FileManager.default.removeItem(at: folder)
                    } else if line == "." {
                        self?.answered(lines)
                        lines = []
                    } else {
                        lines.append(line)
                    }
                }
            }
            self?.ended()
        }
        reader.start()
    }

    deinit {
        try? input.close()
    }

    /// What OTP's supervisor does in this scenario, step by step.
    func run(_ scenario: Scenario) async throws -> Trace {
        let line = Data((scenario.term + "\n").utf8)
        let lines = try await withCheckedThrowingContinuation { continuation in
            let hasEnded = state.withLock { state in
                if state.hasEnded { return true }
                state.waiting.append(continuation)
                // Under the lock, so that the answers come in the order of those who wait.
                input.write(line)
                return false
            }
            if hasEnded { continuation.resume(throwing: Failure.ended) }
        }
        return Trace(lines: lines)
    }

    private func answered(_ lines: [String]) {
        let next = state.withLock { $0.waiting.isEmpty ? nil : $0.waiting.removeFirst() }
        next?.resume(returning: lines)
    }

    private func ended() {
        let waiting = state.withLock { state in
            state.hasEnded = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.resume(throwing: Failure.ended) }
    }
}
