import ChaosSupport
import Foundation
import SupervisionTesting
import Testing

/// How the matrices of these tests are played, and where their tables go.
enum Matrix {
    /// Where `scripts/kill-matrix` wants the tables.
    static let folder = ProcessInfo.processInfo.environment["KILL_MATRIX"]

    static var ways: [Chaos.Way] {
        let ordinary: [Chaos.Way] = [.crash, .kill, .normalEnd, .gracefulStop, .hang, .failingRestart(.times(1))]
        return folder == nil ? ordinary : Chaos.Way.all
    }

    /// How many trees play the matrix side by side, each with a part of the processes. What hangs is waited for, and that takes its
    /// time: on a machine of two cores three trees wait as well as one. A table is written by one.
    static let shares = 0..<(folder == nil ? 3 : 1)

    /// The share of one tree. The ordinary run leaves out the second connection, which is as the first.
    static func play(_ chaos: Chaos, _ name: String, share: Int, _ ways: [Chaos.Way] = ways) async throws {
        let isWhole = folder != nil
        let count = shares.count
        let last = Shared(-1)
        try await play(name) {
            try await chaos.matrix(ways) { process in
                guard isWhole || !process.path.contains("connection-supervisor-2") else { return false }
                // Asked once for each, in the order of the tree.
                return last.with { last in
                    last += 1
                    return last % count == share
                }
            }
        }
    }

    /// Plays, and keeps the table whether it went well or not.
    static func play(_ name: String, _ body: () async throws -> Chaos.Report) async throws {
        do {
            try write(try await body(), name)
        } catch let failure as Chaos.Failure {
            try write(failure.report, name)
            Issue.record("\(failure)")
        }
    }

    private static func write(_ report: Chaos.Report, _ name: String) throws {
        guard let folder else { return }
        try report.markdown.write(
            to: URL(filePath: folder).appending(path: "\(name).md"),
            atomically: true,
            encoding: .utf8
        )
    }
}
