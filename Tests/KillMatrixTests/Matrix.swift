import Foundation
import SupervisionTesting
import Testing

/// How the matrices of these tests are played, and where their tables go.
enum Matrix {
    /// Where `scripts/kill-matrix` wants the tables.
    static let folder = ProcessInfo.processInfo.environment["KILL_MATRIX"]

    static var ways: [Way] {
        let ordinary: [Way] = [.crash, .kill, .normalEnd, .gracefulStop, .hang, .failingRestart(.times(1))]
        return folder == nil ? ordinary : Way.all
    }

    /// The matrix. The ordinary run leaves out the second connection, which is as the first, and with the script plays pairs, too.
    static func play(_ chaos: Chaos, _ name: String) async throws {
        let isWhole = folder != nil
        try await play(name) {
            try await chaos.matrix(ways, only: { isWhole || !$0.path.contains("connection-supervisor-2") })
        }
    }

    /// Plays, and keeps the table whether it went well or not.
    static func play(_ name: String, _ body: () async throws -> ChaosReport) async throws {
        do {
            try write(try await body(), name)
        } catch let failure as ChaosFailure {
            try write(failure.report, name)
            Issue.record("\(failure)")
        }
    }

    private static func write(_ report: ChaosReport, _ name: String) throws {
        guard let folder else { return }
        try report.markdown.write(
            to: URL(filePath: folder).appending(path: "\(name).md"),
            atomically: true,
            encoding: .utf8
        )
    }
}
