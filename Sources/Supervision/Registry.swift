import Synchronization

/// Names for processes: each key belongs to one living process at a time (Elixir's `Registry` with unique keys).
///
///     Child("names") { _ in Registry<String, Session>() }
///
/// A key is released when its owner ends, before anybody is told of the end: whoever learns that a process is dead can take
/// its name. A process that is dead is never returned. Registering and looking up take a lock, no actor hop; the table is as
/// large as what is registered.
public actor Registry<Key: Hashable & Sendable, Value: Sendable> {
    /// Why a key could not be registered.
    public enum RegistrationError: Error, Sendable {
        /// The key belongs to this living process.
        case alreadyRegistered(Pid)
        /// The process that was to own the key has ended.
        case noProcess
    }

    private struct Entry: Sendable {
        var pid: Pid
        var value: Value
        var handler: ExitHandler?
    }

    private nonisolated let entries = Mutex<[Key: Entry]>([:])

    /// An empty registry.
    public init() {}

    /// Registers `value` under `key` for as long as `pid` lives.
    ///
    /// - Throws: ``RegistrationError``. A key whose owner is on its way out is taken over.
    public nonisolated func register(_ key: Key, _ value: Value, for pid: Pid) throws(RegistrationError) {
        guard pid.isAlive else { throw .noProcess }
        let (owner, replaced): (Pid?, ExitHandler?) = entries.withLock { entries in
            if let entry = entries[key], entry.pid != pid, entry.pid.isAlive { return (entry.pid, nil) }
            let replaced = entries[key]?.handler
            entries[key] = Entry(pid: pid, value: value)
            return (nil, replaced)
        }
        if let owner { throw .alreadyRegistered(owner) }
        replaced?.cancel()
        let handler = pid.onExit { [weak self] _ in self?.release(key, from: pid) }
        entries.withLock { entries in
            if entries[key]?.pid == pid { entries[key]?.handler = handler }
        }
    }

    /// The value registered under `key` and its owner, `nil` when there is none that is alive.
    public nonisolated func lookup(_ key: Key) -> (pid: Pid, value: Value)? {
        guard let entry = entries.withLock({ $0[key] }), entry.pid.isAlive else { return nil }
        return (entry.pid, entry.value)
    }

    /// Releases `key` if `pid` owns it.
    public nonisolated func unregister(_ key: Key, for pid: Pid) {
        release(key, from: pid)?.cancel()
    }

    /// How many keys are registered.
    public nonisolated var count: Int { entries.withLock { $0.count } }

    @discardableResult
    private nonisolated func release(_ key: Key, from pid: Pid) -> ExitHandler? {
        entries.withLock { entries in
            guard let entry = entries[key], entry.pid == pid else { return nil }
            entries[key] = nil
            return entry.handler
        }
    }
}
