#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#else
import Darwin
#endif

/// A loopback port on which nobody listens and which nobody else gets, for as long as this is alive: a connection to it is
/// refused.
///
/// The port of a listener that was closed will not do: the system may give it to the next one at any time.
public final class ClosedPort: Sendable {
    /// The system gave none.
    public struct Unavailable: Error {
        var call: String
        var errorNumber: CInt
    }

    /// The port.
    public let number: Int
    private let descriptor: CInt

    /// Takes a port.
    public init() throws {
        #if os(Linux)
        descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        #else
        descriptor = socket(AF_INET, SOCK_STREAM, 0)
        #endif
        guard descriptor >= 0 else { throw Unavailable(call: "socket", errorNumber: errno) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let socket = descriptor
        let isBound = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                bind(socket, pointer, length) == 0 && getsockname(socket, pointer, &length) == 0
            }
        }
        number = Int(UInt16(bigEndian: address.sin_port))
        guard isBound else { throw Unavailable(call: "bind", errorNumber: errno) }
    }

    deinit { close(descriptor) }
}
