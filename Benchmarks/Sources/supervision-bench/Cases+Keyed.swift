import BenchmarkSupport
import Supervision

extension Cases {
    private static let presentKeys = 10_000

    /// Processes found or started by keys that are new, one after the other by one task: keys a second.
    static func keyedNew(_ children: Int) async throws -> Values {
        let supervisor = keyed()
        try await supervisor.start()
        let keys = (0..<children).map { "user-\($0)" }
        let begin = ContinuousClock.now
        for key in keys { try await supervisor[key].findOrStart() }
        let time = ContinuousClock.now - begin
        let count = supervisor.count
        await supervisor.stop()
        guard count == children else { throw LookupError.missing(children - count) }
        return [("value", Double(children) / time.inSeconds)]
    }

    /// Processes found or started by one of 10,000 keys that are there, by so many tasks at once: finds a second of all of them.
    static func keyedPresent(readers: Int) async throws -> Values {
        let supervisor = keyed()
        try await supervisor.start()
        let keys = (0..<presentKeys).map { "user-\($0)" }
        for key in keys { try await supervisor[key].findOrStart() }
        // Once to be warm, as on the other side.
        try await find(supervisor, keys, readers: readers, each: 100_000)
        let each = 1_000_000
        let begin = ContinuousClock.now
        try await find(supervisor, keys, readers: readers, each: each)
        let time = ContinuousClock.now - begin
        await supervisor.stop()
        return [("value", Double(readers * each) / time.inSeconds)]
    }

    private static func keyed() -> KeyedSupervisor<String, Idle> {
        KeyedSupervisor("keyed", logger: silent) { _, _ in Idle() }
    }

    private static func find(
        _ supervisor: KeyedSupervisor<String, Idle>,
        _ keys: [String],
        readers: Int,
        each: Int
    ) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for reader in 1...readers {
                group.addTask {
                    var index = reader * 37
                    for _ in 0..<each {
                        try await supervisor[keys[index % keys.count]].findOrStart()
                        index += 7
                    }
                }
            }
            try await group.waitForAll()
        }
    }
}
