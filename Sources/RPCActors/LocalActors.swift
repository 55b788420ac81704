import ConcurrencyPrimitives
import Distributed
import Synchronization

/// The actors of this process that can be called remotely, by address.
///
/// Supervised actors and activations are retained; an actor that a method created lives as long as somebody in this process retains it. The
/// incarnations of a supervised actor share an address: calls that arrive between two of them wait for the next one, until their deadline,
/// and the end of an old incarnation does not remove a new one.
struct LocalActorTable: Sendable {
    enum Holder: Sendable {
        case strong(any DistributedActor)
        case weak(WeakActor)

        var actor: (any DistributedActor)? {
            switch self {
            case .strong(let actor): actor
            case .weak(let reference): reference.actor
            }
        }
    }

    struct Entry: Sendable {
        var holder: Holder
        var incarnation: UInt64
        var onCrash: (@Sendable (any Error) -> Void)?
    }

    private var entries: [ActorAddress: Entry] = [:]
    /// Addresses that come back, with the number of supervised children that promise it.
    private var expected: [ActorAddress: Int] = [:]

    enum Lookup: Sendable {
        case found(any DistributedActor, incarnation: UInt64)
        /// It is being restarted.
        case expected
        case absent
    }

    mutating func find(_ address: ActorAddress) -> Lookup {
        if let entry = entries[address] {
            if let actor = entry.holder.actor { return .found(actor, incarnation: entry.incarnation) }
            entries[address] = nil
        }
        return expected[address] == nil ? .absent : .expected
    }

    mutating func add(_ address: ActorAddress, _ holder: Holder) {
        entries[address] = Entry(holder: holder, incarnation: address.incarnation)
    }

    /// Removes the address if it still belongs to this incarnation. Returns whether it did.
    mutating func remove(_ address: ActorAddress) -> Bool {
        guard entries[address]?.incarnation == address.incarnation else { return false }
        entries[address] = nil
        return true
    }

    mutating func onCrash(_ address: ActorAddress, _ handler: @escaping @Sendable (any Error) -> Void) {
        guard entries[address]?.incarnation == address.incarnation else { return }
        entries[address]?.onCrash = handler
    }

    func crashHandler(_ address: ActorAddress, incarnation: UInt64) -> (@Sendable (any Error) -> Void)? {
        guard let entry = entries[address], entry.incarnation == incarnation else { return nil }
        return entry.onCrash
    }

    func isCurrent(_ address: ActorAddress, incarnation: UInt64) -> Bool {
        entries[address]?.incarnation == incarnation
    }

    mutating func expect(_ address: ActorAddress) {
        expected[address, default: 0] += 1
    }

    mutating func unexpect(_ address: ActorAddress) {
        let rest = expected[address, default: 1] - 1
        expected[address] = rest > 0 ? rest : nil
    }

    /// Removes all addresses at a destination whose name has ended.
    mutating func removeAll(at destination: String) -> [ActorAddress] {
        let gone = entries.keys.filter { $0.destination == destination }
        for address in gone { entries[address] = nil }
        return gone
    }
}

final class WeakActor: Sendable {
    private let reference: Mutex<Reference>

    private struct Reference {
        weak var actor: (any DistributedActor)?
    }

    init(_ actor: any DistributedActor) {
        reference = Mutex(Reference(actor: actor))
    }

    var actor: (any DistributedActor)? { reference.withLock { $0.actor } }
}

/// The table behind a lock, with the callers that wait for a restarting actor.
final class LocalActors: Sendable {
    private let table = Monitor(LocalActorTable())

    func add(_ address: ActorAddress, _ holder: LocalActorTable.Holder) {
        table.change { $0.add(address, holder) }
    }

    @discardableResult
    func remove(_ address: ActorAddress) -> Bool {
        table.change { $0.remove(address) }
    }

    func removeAll(at destination: String) -> [ActorAddress] {
        table.change { $0.removeAll(at: destination) }
    }

    func onCrash(_ address: ActorAddress, _ handler: @escaping @Sendable (any Error) -> Void) {
        table.change { $0.onCrash(address, handler) }
    }

    /// Ends the actor with the error of its method, if it is still this incarnation.
    func crash(_ address: ActorAddress, incarnation: UInt64, _ error: any Error) {
        table.read { $0.crashHandler(address, incarnation: incarnation) }?(error)
    }

    func isCurrent(_ address: ActorAddress, incarnation: UInt64) -> Bool {
        table.read { $0.isCurrent(address, incarnation: incarnation) }
    }

    func expect(_ address: ActorAddress) { table.change { $0.expect(address) } }

    /// The actor does not come back: fails the waiting callers.
    func unexpect(_ address: ActorAddress) { table.change { $0.unexpect(address) } }

    func find(_ address: ActorAddress) -> LocalActorTable.Lookup {
        table.change { $0.find(address) }
    }

    /// The actor, after waiting while it is restarting; `nil` when there is none. A cancelled task, as at the deadline of its request,
    /// stops waiting.
    func actor(_ address: ActorAddress) async -> (actor: any DistributedActor, incarnation: UInt64)? {
        guard !Task.isCancelled else { return nil }
        let found = try? await table.wait { table -> Found? in
            switch table.find(address) {
            case .found(let actor, let incarnation): .there(actor, incarnation)
            case .absent: .notThere
            case .expected: nil
            }
        }
        switch found {
        case .there(let actor, let incarnation)?: return (actor, incarnation)
        case .notThere?, nil: return nil
        }
    }

    private enum Found: Sendable {
        case there(any DistributedActor, UInt64)
        case notThere
    }
}
