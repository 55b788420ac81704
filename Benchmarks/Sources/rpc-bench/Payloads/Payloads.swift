import NIOCore
import RPCContract
import SwiftProtobuf

/// What an ordinary service takes and returns: 104 bytes in JSON.
struct Order: Codable, Sendable {
    var id: Int
    var customer: String
    var items: [String]
    var total: Double
    var paid: Bool

    static let example = Order(
        id: 4711,
        customer: "Ada Lovelace",
        items: ["tea", "scones", "clotted cream"],
        total: 12.75,
        paid: true
    )
}

extension Bench_Order {
    /// The same order as a message of Protocol Buffers: 56 bytes.
    static var example: Self {
        let order = Order.example
        return .with {
            $0.id = Int64(order.id)
            $0.customer = order.customer
            $0.items = order.items
            $0.total = order.total
            $0.paid = order.paid
        }
    }
}

extension RPCProcedure<Order, Order> {
    /// A struct in JSON.
    static var echoOrder: Self { Self("echo") }
}

extension RPCProcedure<Bench_Order, Bench_Order> {
    /// The same struct in Protocol Buffers.
    static var echoMessage: Self { Self("echo") }
}

extension RPCProcedure<ByteBuffer, ByteBuffer> {
    /// Bytes in a call that promises everything.
    static var echoOctets: Self { Self("echo", codec: .bytes) }

    /// The least work: the bytes as they are, whatever they are called.
    static var echoBytes: Self {
        Self("echo", codec: BytesCodec(contentType: "application/json", acceptsAnyType: true))
    }
}
