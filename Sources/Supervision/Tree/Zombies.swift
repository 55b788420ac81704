import Synchronization

/// A task that ignored its cancellation and was abandoned. It is fenced off: nothing it does reaches the tree.
public struct AbandonedChild: Sendable {
    /// The path of the child.
    public var path: String
    /// The incarnation.
    public var pid: Pid
    /// The type of its actor.
    public var type: String
    /// How long ago it was abandoned.
    public var age: Duration
}

/// The abandoned tasks of a tree that are still running. Their number has no limit, because nothing can end such a task; they are counted,
/// reported and listed instead.
final class Zombies: Sendable {
    struct Entry: Sendable {
        var path: String
        var process: Process
        var type: String
        var since: Duration
    }

    private let entries = Mutex<[UInt64: Entry]>([:])

    var count: Int { entries.withLock { $0.count } }

    func add(_ entry: Entry) {
        entries.withLock { $0[entry.process.number] = entry }
    }

    func remove(_ number: UInt64) {
        entries.withLock { _ = $0.removeValue(forKey: number) }
    }

    func list(at now: Duration) -> [AbandonedChild] {
        entries.withLock { entries in
            entries.values.sorted { $0.process.number < $1.process.number }.map {
                AbandonedChild(path: $0.path, pid: Pid(process: $0.process), type: $0.type, age: now - $0.since)
            }
        }
    }
}
