import NIOCore
import NIOPosix
import Synchronization

/// Where each attempt to connect to a name begins: one address further than the one before.
///
/// The first of a name's addresses may accept connections and then stay silent or close them. To NIO such an attempt has succeeded, so it
/// would never try the name's other addresses.
final class AddressWalk: Sendable {
    /// The address that the last attempt began with.
    private let last = Mutex<String?>(nil)

    /// The addresses in the order for this attempt.
    func order(_ addresses: [SocketAddress]) -> [SocketAddress] {
        last.withLock { last in
            // Resolvers rotate their answers, so positions in them have no meaning.
            let sorted = addresses.map { (text: $0.place, address: $0) }.sorted { $0.text < $1.text }
            guard let previous = last else {
                last = addresses.first?.place
                return addresses
            }
            let start = sorted.firstIndex { $0.text > previous } ?? 0
            let walked = sorted[start...] + sorted[..<start]
            last = walked.first?.text
            return walked.map(\.address)
        }
    }

    /// Resolves one name once.
    ///
    /// - Parameter system: The resolver that knows the addresses; `nil` for the operating system's.
    func resolver(_ system: (any Resolver & Sendable)?, on eventLoop: any EventLoop) -> WalkingResolver {
        WalkingResolver(system ?? NIORandomizedDNSResolver(loop: eventLoop), walk: self, eventLoop: eventLoop)
    }
}

extension SocketAddress {
    /// The address, without the name it was resolved from.
    fileprivate var place: String { "\(ipAddress ?? "\(self)"):\(port ?? 0)" }
}

/// Passes the addresses of both families to NIO in one list, in the order of an ``AddressWalk``.
final class WalkingResolver: Resolver, Sendable {
    private let system: any Resolver & Sendable
    private let walk: AddressWalk
    private let eventLoop: any EventLoop

    init(_ system: any Resolver & Sendable, walk: AddressWalk, eventLoop: any EventLoop) {
        self.system = system
        self.walk = walk
        self.eventLoop = eventLoop
    }

    /// Returns all addresses, including IPv4: NIO keeps the order within a list, and prefers this one.
    func initiateAAAAQuery(host: String, port: Int) -> EventLoopFuture<[SocketAddress]> {
        // In this order: the operating system's resolver does its work in the first call.
        let ipv6 = system.initiateAAAAQuery(host: host, port: port)
        let ipv4 = system.initiateAQuery(host: host, port: port)
        return EventLoopFuture.whenAllComplete([ipv6, ipv4], on: eventLoop).flatMapThrowing { [walk] results in
            let lists = results.compactMap { try? $0.get() }
            // Throws why neither could be resolved.
            if lists.isEmpty, let first = results.first { _ = try first.get() }
            return walk.order(Self.interleaved(lists))
        }
    }

    func initiateAQuery(host: String, port: Int) -> EventLoopFuture<[SocketAddress]> {
        eventLoop.makeSucceededFuture([])
    }

    func cancelQueries() {
        system.cancelQueries()
    }

    /// Alternates between the lists (RFC 8305, section 4).
    private static func interleaved(_ lists: [[SocketAddress]]) -> [SocketAddress] {
        let longest = lists.map(\.count).max() ?? 0
        return (0..<longest).flatMap { index in lists.compactMap { $0.indices.contains(index) ? $0[index] : nil } }
    }
}
