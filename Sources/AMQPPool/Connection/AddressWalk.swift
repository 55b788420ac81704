import NIOCore
import NIOPosix
import Synchronization

/// Where each attempt to connect to a name begins: one address further than the one before.
///
/// The first of a name's addresses may accept connections and then say nothing, or close them. To NIO such an attempt has
/// succeeded, so the other addresses of the name would never be tried.
final class AddressWalk: Sendable {
    /// The address that the last attempt began with.
    private let last = Mutex<String?>(nil)

    /// The addresses in the order in which to try them this time.
    func order(_ addresses: [SocketAddress]) -> [SocketAddress] {
        last.withLock { last in
            // Resolvers rotate what they answer, so places in it mean nothing.
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
    /// - Parameter system: who knows the addresses; nil is the operating system.
    func resolver(_ system: (any Resolver & Sendable)?, on eventLoop: any EventLoop) -> WalkingResolver {
        WalkingResolver(system ?? NIORandomizedDNSResolver(loop: eventLoop), walk: self, eventLoop: eventLoop)
    }
}

extension SocketAddress {
    /// The address, without the name it was found by.
    fileprivate var place: String { "\(ipAddress ?? "\(self)"):\(port ?? 0)" }
}

/// Gives NIO the addresses of both families in one list, in the order of an ``AddressWalk``.
final class WalkingResolver: Resolver, Sendable {
    private let system: any Resolver & Sendable
    private let walk: AddressWalk
    private let eventLoop: any EventLoop

    init(_ system: any Resolver & Sendable, walk: AddressWalk, eventLoop: any EventLoop) {
        self.system = system
        self.walk = walk
        self.eventLoop = eventLoop
    }

    /// All addresses, IPv4 ones included: NIO keeps the order within a list, and prefers this one.
    func initiateAAAAQuery(host: String, port: Int) -> EventLoopFuture<[SocketAddress]> {
        // In this order: the operating system's resolver does its work in the first.
        let ipv6 = system.initiateAAAAQuery(host: host, port: port)
        let ipv4 = system.initiateAQuery(host: host, port: port)
        return EventLoopFuture.whenAllComplete([ipv6, ipv4], on: eventLoop).flatMapThrowing { [walk] results in
            let lists = results.compactMap { try? $0.get() }
            // Why neither could be asked.
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

    /// One of each list in turn (RFC 8305, section 4).
    private static func interleaved(_ lists: [[SocketAddress]]) -> [SocketAddress] {
        let longest = lists.map(\.count).max() ?? 0
        return (0..<longest).flatMap { index in lists.compactMap { $0.indices.contains(index) ? $0[index] : nil } }
    }
}
