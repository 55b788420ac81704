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

    @usableFromInline
    struct Entry: Sendable {
        @usableFromInline
        let pid: Pid
        @usableFromInline
        var value: Value
        // Not the whole handler: a lookup copies the entry, and with it each reference in it.
        var handlerToken: UInt64?

        var handler: ExitHandler? { handlerToken.map { ExitHandler(process: pid.process, token: $0) } }
    }

    @usableFromInline
    nonisolated let entries = Mutex<[Key: Entry]>([:])
    private nonisolated let listeners = RegistryListeners<Key>()

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
        listeners.tell(RegistryChange(key: key, pid: pid, kind: .registered))
        let handler = pid.onExit { [weak self] _ in self?.release(key, from: pid) }
        entries.withLock { entries in
            if entries[key]?.pid == pid { entries[key]?.handlerToken = handler.token }
        }
    }

    /// The value registered under `key` and its owner, `nil` when there is none that is alive.
    @inlinable
    public final nonisolated func lookup(_ key: Key) -> (pid: Pid, value: Value)? {
        // Inlinable, and final, which an actor's methods are not by themselves for other modules: without that nothing is
        // specialized there, and most of a lookup is the runtime looking for generic metadata.
        guard let entry = entries.withLock({ $0[key] }), entry.pid.isAlive else { return nil }
        return (entry.pid, entry.value)
    }

    /// Releases `key` if `pid` owns it.
    public nonisolated func unregister(_ key: Key, for pid: Pid) {
        release(key, from: pid)?.cancel()
    }

    /// Changes the value of `key` in place if `pid` owns it, and returns the new one.
    @discardableResult
    public nonisolated func updateValue(_ key: Key, for pid: Pid, _ change: (inout Value) -> Void) -> Value? {
        entries.withLock { entries in
            guard entries[key]?.pid == pid, var value = entries[key]?.value else { return nil }
            change(&value)
            entries[key]?.value = value
            return value
        }
    }

    /// The keys of living processes whose value matches. Walks the table.
    public nonisolated func keys(where matches: (Value) -> Bool) -> [Key] {
        entries.withLock { entries in
            entries.filter { $0.value.pid.isAlive && matches($0.value.value) }.map(\.key)
        }
    }

    /// The keys that `pid` owns. Walks the table.
    public nonisolated func keys(of pid: Pid) -> [Key] {
        entries.withLock { entries in entries.filter { $0.value.pid == pid }.map(\.key) }
    }

    /// How many keys are registered.
    public nonisolated var count: Int { entries.withLock { $0.count } }

    /// Registrations and releases from now on, those caused by an exit included. Up to 1,024 wait for a slow reader; then the
    /// oldest are dropped.
    public nonisolated func changes() -> AsyncStream<RegistryChange<Key>> { listeners.subscribe() }

    @discardableResult
    private nonisolated func release(_ key: Key, from pid: Pid) -> ExitHandler? {
        let released = entries.withLock { entries -> Entry? in
            guard let entry = entries[key], entry.pid == pid else { return nil }
            entries[key] = nil
            return entry
        }
        if released != nil { listeners.tell(RegistryChange(key: key, pid: pid, kind: .released)) }
        return released?.handler
    }
}

/// A key was registered or released.
public struct RegistryChange<Key: Sendable>: Sendable {
    /// What happened to the key.
    public enum Kind: Sendable, Hashable {
        /// The process registered it.
        case registered
        /// The process unregistered it or has ended.
        case released
    }

    /// The key.
    public var key: Key
    /// Its owner, or the one it had.
    public var pid: Pid
    /// What happened.
    public var kind: Kind
}

/// Who wants to know of changes.
final class RegistryListeners<Key: Sendable>: Sendable {
    private struct State {
        var lastToken: UInt64 = 0
        var listeners: [UInt64: AsyncStream<RegistryChange<Key>>.Continuation] = [:]
    }

    private let state = Mutex(State())

    func subscribe() -> AsyncStream<RegistryChange<Key>> {
        let (stream, continuation) = AsyncStream.makeStream(
            of: RegistryChange<Key>.self,
            bufferingPolicy: .bufferingNewest(EventHub.bufferSize)
        )
        let token = state.withLock { state in
            state.lastToken += 1
            state.listeners[state.lastToken] = continuation
            return state.lastToken
        }
        continuation.onTermination = { [weak self] _ in
            self?.state.withLock { _ = $0.listeners.removeValue(forKey: token) }
        }
        return stream
    }

    func tell(_ change: RegistryChange<Key>) {
        let listeners = state.withLock { $0.listeners }
        for listener in listeners.values { listener.yield(change) }
    }
}
