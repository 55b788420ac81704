import NIOCore
import RPCWire
import Testing

@Suite("Values that nest deeply")
struct DepthTests {
    private static func nested(_ depth: Int) -> JSONValue {
        (0..<depth).reduce(.integer(1)) { value, _ in .array([value]) }
    }

    /// A list as a type of the user's: each element holds the next.
    private final class Node: Encodable, Sendable {
        let next: Node?
        init(_ next: Node?) { self.next = next }
    }

    /// One that stands for another, without a container between.
    private final class Wrapped: Encodable, Sendable {
        let inner: Wrapped?
        init(_ inner: Wrapped?) { self.inner = inner }
        func encode(to encoder: any Encoder) throws {
            var container = encoder.singleValueContainer()
            if let inner { try container.encode(inner) } else { try container.encodeNil() }
        }
    }

    /// One that opens containers in a loop.
    private struct Stairs: Encodable {
        let depth: Int
        func encode(to encoder: any Encoder) throws {
            var container = encoder.unkeyedContainer()
            for _ in 0..<depth { container = container.nestedUnkeyedContainer() }
            try container.encode(1)
        }
    }

    private static func list(_ count: Int) -> Node? {
        (0..<count).reduce(nil) { next, _ in Node(next) }
    }

    @Test("what a decoder takes is encoded as well", arguments: [1, 100, 500])
    func allowed(_ depth: Int) throws {
        let bytes = try JSON.encode(Self.nested(depth))
        #expect(try JSON.decode(JSONValue.self, from: bytes) == Self.nested(depth))
        #expect(try JSON.encode(Self.list(depth)).readableBytes > depth)
        #expect(Self.nested(depth).description.count == 2 * depth + 1)
    }

    @Test("what nests deeper is an error and no overflow of the stack", arguments: [513, 5000, 20_000])
    func refused(_ depth: Int) {
        let value = Self.nested(depth)
        #expect(throws: RPCCodecError.self) { try JSON.encode(value) }
        #expect(throws: RPCCodecError.self) { try JSON.encode(Self.list(depth)) }
        #expect(throws: RPCCodecError.self) { try JSON.encode(["a": [value]]) }
        #expect(throws: RPCCodecError.self) { try JSON.encode(Stairs(depth: depth)) }
        #expect(throws: RPCCodecError.self) {
            try JSON.encode((0..<4 * depth).reduce(Wrapped(nil)) { inner, _ in Wrapped(inner) })
        }
        #expect(value.description == "null")
        #expect(throws: RPCCodecError.self) {
            try JSONCodec<JSONValue>().encode(value)
        }
    }

    @Test("details of a failure that nest too deeply are left out, rather than the whole failure")
    func details() throws {
        let failure = RPCFailure(code: "mine", message: "text", details: Self.nested(5000))
        let read = try #require(ReplyMessage(failure: failure, correlationID: nil).failure)
        #expect(read == RPCFailure(code: "mine", message: "text"))
    }
}
