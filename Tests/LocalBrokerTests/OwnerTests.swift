import BrokerSupport
import Foundation
import LocalBroker
import Testing

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

func killProcess(_ id: Int32) { kill(id, SIGKILL) }

#if os(Linux)
@Suite("A broker whose owner is killed with kill -9", .serialized)
struct OwnerTests {
    @Test("leaves no process and no file")
    func killed() async throws {
        let holder = try Holder()
        let words = try await holder.words()
        let folder = try #require(words.first)
        #expect(!remains(of: folder).isEmpty)
        holder.kill()
        try await eventually("nothing is left of it: \(remains(of: folder))") { remains(of: folder).isEmpty }
    }

    @Test("also when a child of the owner lives on")
    func killedWithChild() async throws {
        let holder = try Holder("--with-child")
        let words = try await holder.words()
        try #require(words.count == 3)
        let folder = words[0]
        let child = try #require(Int32(words[2]))
        defer { kill(child, SIGKILL) }
        holder.kill()
        try await eventually("nothing is left of it") { remains(of: folder).isEmpty }
        #expect(kill(child, 0) == 0)
    }

    @Test("also when it is just being started", arguments: [0, 1, 5, 20, 100, 400, 1500])
    func killedEarly(milliseconds: Int) async throws {
        // Its temporary folder is one of its own, to know its broker from others.
        let parent = FileManager.default.temporaryDirectory.appendingPathComponent("holder-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(atPath: parent) }
        let holder = try Holder(temporaryFolder: parent)
        try await Task.sleep(for: .milliseconds(milliseconds))
        holder.kill()
        try await eventually("nothing is left of it") {
            try FileManager.default.contentsOfDirectory(atPath: parent).isEmpty
                && remains(of: parent + "/local-broker-").isEmpty
        }
    }
}

/// The process that holds the broker.
private final class Holder {
    private let process = Process()
    private let output = Pipe()

    init(_ arguments: String..., temporaryFolder: String? = nil) throws {
        // Next to the test program.
        let program = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        process.executableURL = URL(fileURLWithPath: program).deletingLastPathComponent()
            .appendingPathComponent("BrokerOwner")
        process.arguments = arguments
        process.standardOutput = output
        if let temporaryFolder {
            var environment = ProcessInfo.processInfo.environment
            environment["TMPDIR"] = temporaryFolder
            process.environment = environment
        }
        try process.run()
    }

    deinit { kill() }

    /// What it prints when the broker is up.
    func words() async throws -> [String] {
        let handle = output.fileHandleForReading
        let line = await withCheckedContinuation { continuation in
            Thread.detachNewThread { continuation.resume(returning: handle.availableData) }
        }
        return String(decoding: line, as: UTF8.self).split(whereSeparator: \.isWhitespace).map(String.init)
    }

    func kill() {
        guard process.isRunning else { return }
        killProcess(process.processIdentifier)
        process.waitUntilExit()
    }
}
#endif
