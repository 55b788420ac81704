import Foundation
import TestTurns
import Testing

/// A wall clock is set back, forward, and by an hour twice a year.
@Suite("The wall clock", .besidesThePool)
struct WallClockTests {
    /// Where it is asked, how often, and what for. None of these is a deadline, a pause or an age that something waits for.
    private static let uses: [String: Int] = [
        // Whether a file of certificates changed a moment ago: then it is read again.
        "Sources/AMQPPool/TLS/TLSContextCache.swift": 1,
        // Why a certificate that is refused already is refused: it has expired.
        "Sources/AMQPPool/TLS/TLSFailure+NIOSSL.swift": 1,
        // The number that a shard begins with where none is known.
        "Sources/RPCActors/ShardSession.swift": 1,
        // The times in a message, which other hosts read: when it was published, first seen and given up.
        "Sources/QueueWorkers/MessageHeaders.swift": 1,
        // Times that are shown.
        "Sources/SupervisionObserver/Service/Observation.swift": 1, "Sources/rpc/Look.swift": 1,
    ]

    @Test("Nothing waits by the wall clock: it is asked in these places only, and shown")
    func uses() throws {
        let root = URL(fileURLWithPath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let pattern =
            #/\bDate\(\)|Date\.now|Date\(timeIntervalSinceNow|gettimeofday|CLOCK_REALTIME|\btime\((nil|NULL|&)|DispatchWallTime|wallDeadline|UTCClock|CFAbsoluteTime|\bDate\.timeIntervalSinceReferenceDate|system_clock/#
        let files = FileManager.default.enumerator(
            at: root.appendingPathComponent("Sources"),
            includingPropertiesForKeys: nil
        )
        var found: [String: Int] = [:]
        for case let file as URL in files ?? FileManager.DirectoryEnumerator() {
            guard ["swift", "c", "h"].contains(file.pathExtension), !file.path.contains(".docc/") else { continue }
            let count = try String(contentsOf: file, encoding: .utf8).matches(of: pattern).count
            if count > 0 { found[String(file.path.dropFirst(root.path.count + 1))] = count }
        }
        #expect(
            found == Self.uses,
            "wait with ContinuousClock or the event loop, or say here what the wall clock is for"
        )
    }
}
