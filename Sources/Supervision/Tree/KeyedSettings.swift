import ConcurrencyPrimitives
import Synchronization

/// The state shared by the partitions of one ``KeyedSupervisor``: how a process is started, and the places.
final class KeyedSettings<Key: Hashable & Sendable, A: Actor>: Sendable {
    typealias Partition = KeyedPartition<Key, A>

    /// A key that waits for a place.
    private struct Applicant: Sendable {
        let ticket: KeyedCore<Key>.Ticket
        let partition: Partition
        let process: SupervisorProcess
    }

    let name: String
    let limit: ProcessLimit
    let idleTimeout: Duration?
    private let policy: ChildPolicy
    private let label: @Sendable (Key) -> String
    private let body: @Sendable (Key) -> ChildSpecification.Body
    private let places: Mutex<KeyedPlaces<Applicant>>
    private let uses = Atomic<UInt64>(0)
    /// Set once, before the first use. Weak, because each partition holds this object.
    private let allPartitions = Mutex<[WeakPartition]>([])

    private struct WeakPartition {
        weak var partition: Partition?
    }

    init(
        name: String,
        limit: ProcessLimit,
        idleTimeout: Duration?,
        policy: ChildPolicy,
        label: @escaping @Sendable (Key) -> String,
        body: @escaping @Sendable (Key) -> ChildSpecification.Body
    ) {
        self.name = name
        self.limit = limit
        self.idleTimeout = idleTimeout?.clamped
        self.policy = policy
        self.label = label
        self.body = body
        places = Mutex(KeyedPlaces(limit: limit.maximum ?? .max))
    }

    func makePartitions(_ count: Int) -> [Partition] {
        let partitions = (0..<count).map { Partition(index: $0, settings: self) }
        allPartitions.withLock { $0 = partitions.map(WeakPartition.init) }
        return partitions
    }

    var problem: String? {
        if let maximum = limit.maximum, maximum < 1 {
            return "keyed supervisor '\(name)': the limit must be at least 1, but is \(maximum)"
        }
        if let idleTimeout, idleTimeout <= .zero {
            return "keyed supervisor '\(name)': idleTimeout must be longer than zero, but is \(idleTimeout.clamped)"
        }
        if policy.options.significant {
            return
                "keyed supervisor '\(name)': its processes cannot be significant, since it never shuts down automatically"
        }
        return policy.problem(of: name).map { "the processes of a keyed supervisor: \($0)" }
    }

    func specification(of key: Key) -> ChildSpecification {
        ChildSpecification(id: component(of: key), policy: policy, kind: .actor(body(key)))
    }

    func path(of key: Key, _ process: SupervisorProcess?) -> String {
        (process?.parent?.path ?? name) + "/" + component(of: key)
    }

    /// The name of a partition among its siblings. A key is never written like this, so paths stay unique.
    static func partitionName(_ index: Int) -> String { "#\(index)" }

    /// The key as a path component: without slashes or characters that break a line or its order, not empty, of bounded length, and
    /// injective for labels up to that length.
    private func component(of key: Key) -> String {
        let text = label(key)
        let isPlain =
            !text.isEmpty && text.utf8.count <= 128 && text.utf8.first != 0x23
            && text.utf8.allSatisfy { $0 > 0x20 && $0 != 0x25 && $0 != 0x2F && $0 < 0x7F }
        if isPlain { return text }
        var result = ""
        for scalar in text.unicodeScalars.prefix(128) {
            switch scalar {
            case "/", "%": result += escaped(scalar)
            case "#" where result.isEmpty: result += escaped(scalar)
            case _ where Self.isControl(scalar): result += escaped(scalar)
            default: result.unicodeScalars.append(scalar)
            }
        }
        if text.unicodeScalars.count > 128 { result += "…" }
        return result.isEmpty ? "%" : result
    }

    /// Whether the character would break a line, or change the order in which a terminal displays it.
    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .lineSeparator, .paragraphSeparator: true
        case .format: scalar.properties.isBidiControl
        default: false
        }
    }

    private func escaped(_ scalar: Unicode.Scalar) -> String {
        String(scalar).utf8.reduce(into: "") { text, byte in
            let digits = String(byte, radix: 16, uppercase: true)
            text += digits.count < 2 ? "%0" + digits : "%" + digits
        }
    }

    /// A number that increases with each use, where the order of uses is needed.
    func nextUse() -> UInt64 {
        guard case .leastRecentlyUsed = limit else { return 0 }
        return uses.add(1, ordering: .relaxed).newValue
    }

    // MARK: - Places

    func admit(_ ticket: KeyedCore<Key>.Ticket, to partition: Partition, _ process: SupervisorProcess) {
        let applicant = Applicant(ticket: ticket, partition: partition, process: process)
        while true {
            switch places.withLock({ $0.admit(applicant) }) {
            case .granted: return partition.admitted(ticket, process)
            case .queued: return
            case .full:
                guard case .leastRecentlyUsed = limit, evictOldest() else { return partition.refused(ticket, process) }
            }
        }
    }

    func announceLeaving() {
        places.withLock { $0.announceLeaving() }
    }

    func freePlace(wasLeaving: Bool) {
        guard let next = places.withLock({ $0.free(wasLeaving: wasLeaving) }) else { return }
        next.partition.admitted(next.ticket, next.process)
    }

    /// Ends the process that has been idle longest, over all partitions. False when none is idle.
    private func evictOldest() -> Bool {
        let partitions = allPartitions.withLock { $0.compactMap(\.partition) }
        while true {
            var oldest: (partition: Partition, ticket: KeyedCore<Key>.Ticket, use: UInt64)?
            for partition in partitions {
                guard let (ticket, use) = partition.oldestIdle, use < oldest?.use ?? .max else { continue }
                oldest = (partition, ticket, use)
            }
            guard let oldest else { return false }
            // It may have been called in the meantime: then another process is the oldest.
            if oldest.partition.evict(oldest.ticket) { return true }
        }
    }
}

/// The maximum number of processes of a ``KeyedSupervisor``. A process that is starting, restarting or ending counts.
public enum ProcessLimit: Sendable, Hashable {
    /// No limit.
    case unlimited
    /// At most this many. To start one more, the least recently used idle process is ended; when none is idle, the call fails with
    /// ``CallError/tooManyProcesses(child:limit:)``.
    case leastRecentlyUsed(Int)
    /// At most this many. A call that would need one more fails with ``CallError/tooManyProcesses(child:limit:)``.
    case refuse(Int)

    var maximum: Int? {
        switch self {
        case .unlimited: nil
        case .leastRecentlyUsed(let maximum), .refuse(let maximum): maximum
        }
    }
}
