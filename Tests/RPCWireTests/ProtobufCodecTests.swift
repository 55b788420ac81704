#if Protobuf
import NIOCore
import RPCReceiver
import RPCWire
import SwiftProtobuf
import Testing

private enum Shop {
    static let buy = RPCProcedure<Shop_Order, Shop_Receipt>("buy")
}

/// Part of a run only with the package trait: `swift test --traits Protobuf`.
@Suite("The Protocol Buffers codec")
struct ProtobufCodecTests {
    let shop = RPCHandlers {
        RPCHandler(Shop.buy) { order, _ in
            .with {
                $0.text = "\(order.count) x \(order.item)"
                $0.lines = [order]
            }
        }
    }

    @Test("a declared procedure takes and returns messages")
    func call() async throws {
        let receipt = try await shop.call(Shop.buy, .with { ($0.item, $0.count) = ("milk", 2) })
        #expect(receipt.text == "2 x milk")
        #expect(receipt.lines.first?.count == 2)
    }

    @Test("the bytes are those of the binary format")
    func bytes() throws {
        let codec = ProtobufCodec<Shop_Order>()
        let order = Shop_Order.with { ($0.item, $0.count) = ("milk", 2) }
        let bytes = try codec.encode(order)
        #expect(Array(bytes.readableBytesView) == [0x0A, 4] + Array("milk".utf8) + [0x10, 2])
        #expect(try codec.decode(bytes) == order)
        #expect(try codec.decode(ByteBuffer()) == Shop_Order())
    }

    @Test("bytes that are no message are refused without quoting them")
    func refused() {
        #expect {
            try ProtobufCodec<Shop_Order>().decode(ByteBuffer(string: "\u{0A}\u{FF}secret"))
        } throws: { error in
            error is RPCCodecError && "\(error)".contains("shop.Order") && !"\(error)".contains("secret")
        }
    }

    @Test("it goes by each of its names, and by no other")
    func contentTypes() async {
        let codec = ProtobufCodec<Shop_Order>()
        for type in ["application/x-protobuf", "application/protobuf; proto=shop.Order"] {
            #expect(codec.accepts(contentType: type))
        }
        #expect(codec.accepts(nil))
        #expect(!codec.accepts(contentType: "application/json"))
        await #expect {
            try await shop.call("buy", ["item": "milk"], as: JSONValue.self)
        } throws: {
            ($0 as? RPCFailure)?.code == .unsupportedContentType
        }
    }
}
#endif
