import BenchmarkSupport
import Supervision
import Synchronization

extension Cases {
    private static let names = 10_000

    /// Lookups a second of so many readers together, among 10,000 names.
    static func lookup(readers: Int) async throws -> Values {
        let (registry, keys, supervisor) = try await namesOfOneOwner()
        // Once to be warm, as on the other side.
        _ = await read(registry, keys, readers: readers, each: 200_000)
        let each = 2_000_000
        let begin = ContinuousClock.now
        let found = await read(registry, keys, readers: readers, each: each)
        let time = ContinuousClock.now - begin
        await supervisor.stop()
        guard found == readers * each else { throw LookupError.missing(readers * each - found) }
        return [("value", Double(readers * each) / time.inSeconds)]
    }

    static func repeatLookup(_ times: Int) async throws -> Values {
        let (registry, keys, supervisor) = try await namesOfOneOwner()
        let begin = ContinuousClock.now
        let found = await read(registry, keys, readers: 1, each: times)
        let time = ContinuousClock.now - begin
        await supervisor.stop()
        guard found == times else { throw LookupError.missing(times - found) }
        return [("value", time.inSeconds * 1e6 / Double(max(1, times)))]
    }

    private static func namesOfOneOwner() async throws -> (Registry<String, Int>, [String], Supervisor) {
        let registry = Registry<String, Int>()
        let supervisor = flat(.actor, 1)
        try await supervisor.start()
        let keys = (1...names).map { "user-\($0)" }
        guard let owner = try supervisor.reference().whichChildren().first?.pid else {
            throw LookupError.missing(names)
        }
        for (index, key) in keys.enumerated() { try registry.register(key, index, for: owner) }
        return (registry, keys, supervisor)
    }

    private static func read(_ registry: Registry<String, Int>, _ keys: [String], readers: Int, each: Int) async -> Int
    {
        await withTaskGroup(of: Int.self) { group in
            for reader in 1...readers {
                group.addTask {
                    var (found, index) = (0, reader * 37)
                    for _ in 0..<each {
                        if registry.lookup(keys[index % keys.count]) != nil { found += 1 }
                        index += 7
                    }
                    return found
                }
            }
            return await group.reduce(0, +)
        }
    }
}

enum LookupError: Error, CustomStringConvertible {
    case missing(Int)

    var description: String {
        switch self {
        case .missing(let count): "\(count) lookups found nothing"
        }
    }
}
