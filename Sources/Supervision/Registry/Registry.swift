import ConcurrencyPrimitives
import Synchronization

/// Names for processes: each key belongs to at most one living process (Elixir's `Registry` with unique keys).
///
///     Child("names") { _ in Registry<String, Session>() }
///
/// A key is released when its owner ends, before the exit is announced, so that whoever learns of the exit can take the name. A dead
/// process is never returned. Registering and looking up take a lock but need no actor hop; the table grows with what is registered.
public actor Registry<Key: Hashable & Sendable, Value: Sendable> {
    /// Why a key could not be registered.
    public enum RegistrationError: Error, Sendable, Equatable {
        /// The key belongs to this living process.
        case alreadyRegistered(Pid)
        /// The process that should own the key has ended.
        case noProcess
    }

    /// A key, its owner and its value.
    public typealias Registration = (key: Key, pid: Pid, value: Value)

    @usableFromInline
    struct Entry: Sendable {
        @usableFromInline
        let pid: Pid
        @usableFromInline
        var value: Value
        // Only the token: a lookup copies the entry and retains each reference in it.
        var handlerToken: UInt64?
        /// Changes with each change of the value.
        var version: UInt64

        var handler: ExitHandler? { handlerToken.map { ExitHandler(process: pid.process, token: $0) } }
    }

    /// A change of a value that is being computed outside the lock.
    private struct Update {
        let number: UInt64
        let key: Key
        let thread: ThreadIdentity
        /// The version that the change is based on.
        var version: UInt64
    }

    @usableFromInline
    struct Table: Sendable {
        @usableFromInline
        var entries: [Key: Entry] = [:]
        /// The last number of an entry or an update. Numbers are never reused, so that a new entry for the same key is distinguishable.
        private var lastNumber: UInt64 = 0
        private var updates: [Update] = []

        /// Sets an entry and returns the one it replaces, for the caller to release outside the lock: the value belongs to the user and may
        /// have a deinitializer.
        mutating func set(_ key: Key, _ value: Value, for pid: Pid) -> Entry? {
            let old = entries[key]
            lastNumber += 1
            entries[key] = Entry(pid: pid, value: value, version: lastNumber)
            return old
        }

        /// Begins to update the value of `pid` under `key`.
        mutating func beginUpdate(_ key: Key, for pid: Pid, on thread: ThreadIdentity) -> (
            number: UInt64, value: Value
        )? {
            guard let entry = entries[key], entry.pid == pid else { return nil }
            lastNumber += 1
            updates.append(Update(number: lastNumber, key: key, thread: thread, version: entry.version))
            return (lastNumber, entry.value)
        }

        /// Ends an update. The caller releases the old value outside the lock.
        mutating func endUpdate(_ number: UInt64, _ value: Value) -> UpdateEnd {
            guard let index = updates.firstIndex(where: { $0.number == number }) else { return .gone }
            let update = updates.remove(at: index)
            guard let old = entries[update.key] else { return .gone }
            guard old.version == update.version else { return .overtaken }
            lastNumber += 1
            entries[update.key]?.value = value
            entries[update.key]?.version = lastNumber
            // A nested update on the same thread must not make the outer update start again.
            for index in updates.indices where updates[index].thread == update.thread {
                guard updates[index].key == update.key, updates[index].version == update.version else { continue }
                updates[index].version = lastNumber
            }
            return .changed(old: old.value)
        }
    }

    enum UpdateEnd { case changed(old: Value), overtaken, gone }

    @usableFromInline
    nonisolated let table = Mutex(Table())
    private nonisolated let listeners = EventBroadcast<RegistryChange<Key>>(limit: EventHub.bufferSize)

    /// Creates an empty registry.
    public init() {}

    /// Registers `value` under `key` for as long as `pid` lives.
    ///
    /// - Throws: ``RegistrationError``. A key whose owner is ending is taken over.
    public nonisolated func register(_ key: Key, _ value: Value, for pid: Pid) throws(RegistrationError) {
        guard pid.isAlive else { throw .noProcess }
        let (owner, replaced): (Pid?, Entry?) = table.withLock { table in
            if let old = table.entries[key], old.pid != pid, old.pid.isAlive { return (old.pid, nil) }
            return (nil, table.set(key, value, for: pid))
        }
        if let owner { throw .alreadyRegistered(owner) }
        replaced?.handler?.cancel()
        listeners.send(RegistryChange(key: key, pid: pid, kind: .registered))
        let handler = pid.onExit { [weak self] _ in self?.release(key, from: pid) }
        table.withLock { table in
            if table.entries[key]?.pid == pid { table.entries[key]?.handlerToken = handler.token }
        }
    }

    /// The value registered under `key` and its owner, `nil` when no living process owns the key.
    @inlinable
    public final nonisolated func lookup(_ key: Key) -> (pid: Pid, value: Value)? {
        // Inlinable and final, because an actor's methods are otherwise not specialized in other modules, and most of a lookup would be
        // spent on generic metadata.
        guard let entry = table.withLock({ $0.entries[key] }), entry.pid.isAlive else { return nil }
        return (entry.pid, entry.value)
    }

    /// Releases `key` if `pid` owns it.
    public nonisolated func unregister(_ key: Key, for pid: Pid) {
        release(key, from: pid)?.cancel()
    }

    /// Changes the value of `key` if `pid` owns it and is alive, and returns the new one.
    ///
    /// `change` works on a copy, outside any lock, so that it may use the registry. It is called again if the value has been changed by
    /// someone else in the meantime; a change that it makes itself to this key is overwritten by its result.
    @discardableResult
    public nonisolated func updateValue(_ key: Key, for pid: Pid, _ change: (inout Value) -> Void) -> Value? {
        let thread = ThreadIdentity.current
        while pid.isAlive, let (number, old) = table.withLock({ $0.beginUpdate(key, for: pid, on: thread) }) {
            var value = old
            change(&value)
            switch table.withLock({ $0.endUpdate(number, value) }) {
            case .changed: return value
            case .overtaken: continue
            case .gone: return nil
            }
        }
        return nil
    }

    /// The keys of living processes whose value matches. Walks a snapshot of the table, outside any lock.
    public nonisolated func keys(where matches: (Value) -> Bool) -> [Key] {
        table.withLock { $0.entries }.filter { $0.value.pid.isAlive && matches($0.value.value) }.map(\.key)
    }

    /// The keys that `pid` owns; none when it is ending or has ended. Walks the table.
    public nonisolated func keys(of pid: Pid) -> [Key] {
        guard pid.isAlive else { return [] }
        return table.withLock { $0.entries }.filter { $0.value.pid == pid }.map(\.key)
    }

    /// The number of registered keys, including those of owners that are ending.
    public nonisolated var count: Int { table.withLock { $0.entries.count } }

    /// All registrations of living processes that match (Elixir's `select`, `match`). Walks a copy of the table; `matches` is called
    /// outside any lock.
    public nonisolated func registrations(where matches: (Registration) -> Bool = { _ in true }) -> [Registration] {
        let entries = table.withLock { $0.entries }
        return entries.compactMap { key, entry in
            let registration = (key: key, pid: entry.pid, value: entry.value)
            return entry.pid.isAlive && matches(registration) ? registration : nil
        }
    }

    /// The number of keys of living processes whose value matches. Walks a copy of the table.
    public nonisolated func count(where matches: (Value) -> Bool) -> Int { keys(where: matches).count }

    /// The number of keys that `pid` owns. Walks the table.
    public nonisolated func count(of pid: Pid) -> Int { keys(of: pid).count }

    /// Registrations and releases from now on, including releases caused by an exit. Up to 1,024 are buffered for a slow reader; then the
    /// oldest are dropped.
    public nonisolated func changes() -> AsyncStream<RegistryChange<Key>> { listeners.stream() }

    @discardableResult
    private nonisolated func release(_ key: Key, from pid: Pid) -> ExitHandler? {
        let released = table.withLock { table -> Entry? in
            guard let entry = table.entries[key], entry.pid == pid else { return nil }
            table.entries[key] = nil
            return entry
        }
        if released != nil { listeners.send(RegistryChange(key: key, pid: pid, kind: .released)) }
        return released?.handler
    }
}

// MARK: - References by name

extension Registry {
    /// The process that owns this name at the time of each call: Elixir's `{:via, Registry, {registry, name}}`.
    ///
    /// When nobody owns the name, a call fails with ``CallError/noProcess(child:)`` without waiting.
    ///
    /// - Parameters:
    ///   - name: The key, registered by the child for itself.
    ///   - type: The type of the child's actor.
    public nonisolated func reference<A: Actor>(name: Key, as type: A.Type = A.self) -> ChildReference<A> {
        ChildReference(address: Address(anchor: .named({ self.lookup(name)?.pid }, path: { "\(name)" }), names: []))
    }
}

extension ChildContext {
    /// The process that owns this name in a registry: see ``Registry/reference(name:as:)``.
    public func reference<Key: Hashable & Sendable, Value: Sendable, A: Actor>(
        name: Key,
        in registry: Registry<Key, Value>,
        as type: A.Type = A.self
    ) -> ChildReference<A> {
        registry.reference(name: name, as: type)
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
    /// The owner, or the previous owner after a release.
    public var pid: Pid
    /// What happened.
    public var kind: Kind
}

extension Registry: NameKeeping {
    package nonisolated func names(of pid: Pid, limit: Int) -> [String] {
        keys(of: pid).prefix(limit).map { String(describing: $0) }
    }
}
