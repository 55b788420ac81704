/// The address of an actor: the id of every distributed actor of an ``RPCActorSystem``.
///
/// | | written | who answers |
/// |---|---|---|
/// | ``service(_:_:)`` | `bank!teller` | any node of the service that has an actor of this name |
/// | of a node | `bank@9f3c!Ledger-7` | only the incarnation of the node that created it: an actor that a method returned |
/// | ``virtual(_:_:_:shards:)`` | `bank/account#17/64!account/alice` | the node that currently holds the key's shard |
///
/// On the wire, and in every reference that is sent as an argument or a result, it is a single string.
public struct ActorAddress: Hashable, Sendable {
    /// How requests are routed to it.
    enum Route: Hashable, Sendable {
        /// Through the requests' exchange, to the service's queue.
        case service
        /// Through the default exchange, to the queue of the node.
        case node
        /// Through the default exchange, to the queue of the shard.
        case shard

        /// Whether it goes to a queue by its name, and not through the exchange.
        var isQueue: Bool {
            switch self {
            case .service: false
            case .node, .shard: true
            }
        }

        /// Whether it leads to one node, whose end is the end of the actor.
        var isOneNode: Bool {
            switch self {
            case .node: true
            case .service, .shard: false
            }
        }

        /// Whether the actor is virtual: it is made where its shard is.
        var isShard: Bool {
            switch self {
            case .shard: true
            case .service, .node: false
            }
        }
    }

    /// The service, the node or the shard.
    public let destination: String
    /// The actor's name at that destination.
    public let name: String
    /// The incarnation that assigned it, in this process only: neither compared nor sent.
    let incarnation: UInt64

    init(destination: String, name: String, incarnation: UInt64 = 0) {
        self.destination = destination
        self.name = name
        self.incarnation = incarnation
    }

    /// An actor that each node of a service has under this name: see `Child.distributed`.
    public static func service(_ service: String, _ name: String) -> ActorAddress {
        ActorAddress(destination: service, name: name)
    }

    /// The virtual actor of a kind for a key: see `Child.virtual`.
    ///
    /// - Parameters:
    ///   - service: The service whose nodes run it.
    ///   - kind: Its kind.
    ///   - key: Any text, compared as UTF-8 bytes: "é" as one code point and as two are different keys, although Swift's `==` considers
    ///     them equal.
    ///   - shards: The number of shards of the kind: the same everywhere, as long as its queues exist.
    public static func virtual(_ service: String, _ kind: String, _ key: String, shards: Int) -> ActorAddress {
        ShardName(service: service, kind: kind, count: shards).address(of: key)
    }

    static func node(_ node: String, _ name: String, incarnation: UInt64 = 0) -> ActorAddress {
        ActorAddress(destination: node, name: name, incarnation: incarnation)
    }

    /// Whether two addresses are the same, byte by byte, whichever incarnation assigned them.
    ///
    /// The broker compares bytes, and so does the hash of keys: strings that look the same may be different keys.
    public static func == (left: ActorAddress, right: ActorAddress) -> Bool {
        left.name == right.name && left.destination == right.destination
            && left.name.utf8.elementsEqual(right.name.utf8)
            && left.destination.utf8.elementsEqual(right.destination.utf8)
    }

    /// Hashes the two parts.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(destination)
        hasher.combine(name)
    }

    var route: Route {
        if destination.utf8.contains(UInt8(ascii: "#")) { return .shard }
        return destination.utf8.contains(UInt8(ascii: "@")) ? .node : .service
    }

    /// The key of a virtual actor.
    var key: String {
        // Not as characters, here and below: a combining character after the separator would hide it.
        let scalars = name.unicodeScalars
        guard let slash = scalars.firstIndex(of: "/") else { return name }
        return String(scalars[scalars.index(after: slash)...])
    }

    /// Whether a name contains a character that separates the parts of addresses.
    static func hasSeparator(_ text: String) -> Bool {
        text.unicodeScalars.contains { "!@#/".unicodeScalars.contains($0) }
    }

    /// The maximum size of each part in bytes: the first is the name of a queue, the second is sent in a header.
    static let maximumDestinationBytes = 255
    static let maximumNameBytes = 1024

    /// Whether a request for it can be sent.
    var isValid: Bool {
        (1...Self.maximumDestinationBytes).contains(destination.utf8.count)
            && (1...Self.maximumNameBytes).contains(name.utf8.count) && !destination.unicodeScalars.contains("!")
    }

    /// Parses an address from untrusted text.
    init?(_ text: String) {
        let scalars = text.unicodeScalars
        guard let mark = scalars.firstIndex(of: "!") else { return nil }
        self.init(destination: String(scalars[..<mark]), name: String(scalars[scalars.index(after: mark)...]))
        guard isValid else { return nil }
    }
}

extension ActorAddress: CustomStringConvertible {
    /// The address as text.
    public var description: String { "\(destination)!\(name)" }
}

extension ActorAddress: Codable {
    /// Decodes the string.
    public init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let address = ActorAddress(text) else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "not an address of an actor")
            )
        }
        self = address
    }

    /// Encodes the string.
    public func encode(to encoder: any Encoder) throws {
        guard isValid else {
            throw EncodingError.invalidValue(
                self,
                .init(codingPath: encoder.codingPath, debugDescription: "not an address of an actor: \(self)")
            )
        }
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

/// A shard of a kind of virtual actors, and the mapping of keys to shards.
struct ShardName: Hashable, Sendable {
    let service: String
    let kind: String
    let count: Int

    init(service: String, kind: String, count: Int) {
        self.service = service
        self.kind = kind
        self.count = min(max(1, count), Self.maximumCount)
    }

    /// Each shard is a queue that every node consumes.
    static let maximumCount = 65_536

    /// What nodes announce to hold: nodes with another number of shards use other queues.
    var heldKind: String { "\(kind)/\(count)" }

    /// Whether it can be part of addresses and queue names.
    var isValid: Bool {
        !kind.isEmpty && !ActorAddress.hasSeparator(kind)
            && queue(count).utf8.count <= ActorAddress.maximumDestinationBytes
    }

    func queue(_ number: Int) -> String { "\(service)/\(kind)#\(number)/\(count)" }

    func address(of key: String) -> ActorAddress {
        let number = Int(StableHash.value(key) % UInt64(count))
        return ActorAddress(destination: queue(number), name: "\(kind)/\(key)")
    }
}
