import ConcurrencyPrimitives
import Synchronization

/// Groups of processes, any number under each key (Elixir's `Registry` with duplicate keys), for publish and subscribe within an OS
/// process.
///
/// A process may be registered under a key several times, with different values. Its entries are removed when it ends, before its exit is
/// announced; a dead process is never returned. No method needs an actor hop.
public actor DuplicateRegistry<Key: Hashable & Sendable, Value: Sendable> {
    /// A key, its owner and its value.
    public typealias Registration = (key: Key, pid: Pid, value: Value)

    private struct Entry: Sendable {
        var pid: Pid
        var value: Value
        let number: UInt64
    }

    private struct State {
        var lastEntry: UInt64 = 0
        var entries: [Key: [Entry]] = [:]
        var keys: [Pid: Set<Key>] = [:]
        var handlers: [Pid: ExitHandler] = [:]
    }

    private nonisolated let state = Mutex(State())
    private nonisolated let listeners = EventBroadcast<RegistryChange<Key>>(limit: EventHub.bufferSize)

    /// Creates an empty registry.
    public init() {}

    /// Adds an entry for `pid` under `key` for as long as the process lives. Does nothing when it has ended.
    public nonisolated func register(_ key: Key, _ value: Value, for pid: Pid) {
        guard pid.isAlive else { return }
        let isFirst = state.withLock { state in
            state.lastEntry += 1
            state.entries[key, default: []].append(Entry(pid: pid, value: value, number: state.lastEntry))
            defer { state.keys[pid, default: []].insert(key) }
            return state.keys[pid] == nil
        }
        listeners.send(RegistryChange(key: key, pid: pid, kind: .registered))
        guard isFirst else { return }
        let handler = pid.onExit { [weak self] _ in self?.releaseAll(of: pid) }
        state.withLock { state in
            if state.keys[pid] != nil { state.handlers[pid] = handler }
        }
    }

    /// The living entries under `key`, in the order of registration.
    public nonisolated func lookup(_ key: Key) -> [(pid: Pid, value: Value)] {
        let entries = state.withLock { $0.entries[key] ?? [] }
        return entries.filter { $0.pid.isAlive }.map { ($0.pid, $0.value) }
    }

    /// Calls `body` with each living entry under `key`, on the calling task, outside any lock.
    public nonisolated func dispatch(_ key: Key, _ body: (Pid, Value) -> Void) {
        for (pid, value) in lookup(key) { body(pid, value) }
    }

    /// Removes the entries of `pid` under `key` whose value matches; all of them by default. `matches` is called outside any lock.
    public nonisolated func unregister(_ key: Key, for pid: Pid, where matches: (Value) -> Bool = { _ in true }) {
        let candidates = state.withLock { $0.entries[key] ?? [] }
        let matching = Set(candidates.filter { $0.pid == pid && matches($0.value) }.map(\.number))
        guard !matching.isEmpty else { return }
        // Removed entries are released outside the lock, because deinitializers of their values may run.
        let (removed, handler) = state.withLock { state -> ([Entry], ExitHandler?) in
            guard let before = state.entries[key] else { return ([], nil) }
            let after = before.filter { !matching.contains($0.number) }
            state.entries[key] = after.isEmpty ? nil : after
            guard after.count < before.count else { return ([], nil) }
            guard !after.contains(where: { $0.pid == pid }) else { return (before, nil) }
            state.keys[pid]?.remove(key)
            guard state.keys[pid]?.isEmpty == true else { return (before, nil) }
            state.keys[pid] = nil
            return (before, state.handlers.removeValue(forKey: pid))
        }
        handler?.cancel()
        if !removed.isEmpty { listeners.send(RegistryChange(key: key, pid: pid, kind: .released)) }
    }

    /// The keys under which `pid` is registered.
    public nonisolated func keys(of pid: Pid) -> Set<Key> {
        pid.isAlive ? state.withLock { $0.keys[pid] ?? [] } : []
    }

    /// All registrations of living processes that match (Elixir's `select`), per key in the order of registration. Walks a copy of the
    /// table.
    public nonisolated func registrations(where matches: (Registration) -> Bool = { _ in true }) -> [Registration] {
        let entries = state.withLock { $0.entries }
        return entries.flatMap { key, entries in
            entries.compactMap { entry in
                let registration = (key: key, pid: entry.pid, value: entry.value)
                return entry.pid.isAlive && matches(registration) ? registration : nil
            }
        }
    }

    /// The keys under which a living process has a value that matches. Walks a copy of the table.
    public nonisolated func keys(where matches: (Value) -> Bool) -> Set<Key> {
        Set(registrations { matches($0.value) }.map(\.key))
    }

    /// The values of `pid` under `key`, in the order of registration (Elixir's `values`).
    public nonisolated func values(_ key: Key, of pid: Pid) -> [Value] {
        state.withLock { $0.entries[key] ?? [] }.filter { $0.pid == pid }.map(\.value)
    }

    /// The number of entries of living processes under `key` whose value matches; all of them by default.
    public nonisolated func count(_ key: Key, where matches: (Value) -> Bool = { _ in true }) -> Int {
        lookup(key).count { matches($0.value) }
    }

    /// The number of entries under all keys. Walks the table.
    public nonisolated var count: Int { state.withLock { $0.entries.values.reduce(0) { $0 + $1.count } } }

    /// Registrations and releases from now on, including releases caused by an exit. Up to 1,024 are buffered for a slow reader; then the
    /// oldest are dropped.
    public nonisolated func changes() -> AsyncStream<RegistryChange<Key>> { listeners.stream() }

    private nonisolated func releaseAll(of pid: Pid) {
        // Released outside the lock, as above.
        let (keys, removed) = state.withLock { state in
            let keys = state.keys.removeValue(forKey: pid) ?? []
            state.handlers[pid] = nil
            var removed: [[Entry]] = []
            for key in keys {
                guard let before = state.entries[key] else { continue }
                let left = before.filter { $0.pid != pid }
                state.entries[key] = left.isEmpty ? nil : left
                removed.append(before)
            }
            return (keys, removed)
        }
        _ = removed
        for key in keys { listeners.send(RegistryChange(key: key, pid: pid, kind: .released)) }
    }
}

extension DuplicateRegistry: NameKeeping {
    package nonisolated func names(of pid: Pid, limit: Int) -> [String] {
        let keys = state.withLock { $0.keys[pid] ?? [] }
        return keys.prefix(limit).map { String(describing: $0) }
    }
}
