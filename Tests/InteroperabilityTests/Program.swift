import BrokerSupport
import Foundation
import Testing

extension Program {
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

    /// A program of the folder `Python`.
    convenience init(_ name: String, _ arguments: [String] = [], url: String) throws {
        let script = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Python/\(name).py").path
        try self.init(name, try #require(Self.interpreter), [script] + arguments, environment: ["AMQP_URL": url])
    }

    /// The tool.
    convenience init(tool arguments: [String], url: String) throws {
        try self.init("rpc", try #require(Self.tool), arguments, environment: ["AMQP_URL": url])
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
