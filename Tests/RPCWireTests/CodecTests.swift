import Foundation
import NIOCore
import RPCReceiver
import RPCWire
import Testing

@Suite("The JSON codec")
struct CodecTests {
    @Test(
        "any JSON value is written and read back as itself",
        arguments: [
            "null", "true", "13", "-9223372036854775808", "0.5", #""text \" ü""#, "[]", "{}", "[4,9]",
            #"{"a":[1,{"b":null}],"c":"d"}"#, "1e+300",
        ]
    )
    func fragments(_ text: String) throws {
        let value = try JSON.decode(JSONValue.self, from: ByteBuffer(string: text))
        #expect(String(buffer: try JSON.encode(value)) == text)
        #expect(value.description == text)
        #expect(try JSONValue(parsing: text) == value)
    }

    @Test("a lone number, string and null are values of Swift's types too")
    func lone() throws {
        #expect(try JSON.decode(Int.self, from: ByteBuffer(string: "13")) == 13)
        #expect(try JSON.decode(String.self, from: ByteBuffer(string: #""x""#)) == "x")
        #expect(try JSON.decode(Int?.self, from: ByteBuffer(string: "null")) == nil)
        #expect(String(buffer: try JSON.encode(13)) == "13")
        #expect(String(buffer: try JSON.encode("x")) == #""x""#)
        #expect(String(buffer: try JSON.encode(Int?.none)) == "null")
    }

    @Test("what is wrong with a value is told by place, without the value")
    func errors() {
        struct Order: Decodable {
            var items: [Int]
        }
        #expect {
            try JSON.decode(Order.self, from: ByteBuffer(string: #"{"items":[1,"secret"]}"#))
        } throws: { error in
            "\(error)".contains("items") && !"\(error)".contains("secret")
        }
        #expect {
            try JSON.decode(Order.self, from: ByteBuffer(string: "{}"))
        } throws: { error in
            "\(error)" == #"the key "items" is missing"#
        }
        for text in ["", "{", "tru", "[1 2]", "\u{0}"] {
            #expect(throws: RPCCodecError.self) { try JSON.decode(JSONValue.self, from: ByteBuffer(string: text)) }
        }
        #expect(throws: RPCCodecError.self) { try JSON.encode(Double.nan) }
    }

    @Test("JSON nested as deep as a message allows is refused, and does not crash")
    func nesting() {
        let text = String(repeating: "[", count: 100_000)
        #expect(throws: RPCCodecError.self) { try JSON.decode(JSONValue.self, from: ByteBuffer(string: text)) }
    }

    @Test("messages that name JSON, or no type, are JSON")
    func contentTypes() {
        for type in [nil, "application/json", "application/json; charset=utf-8", "Application/JSON"] {
            #expect(JSON.accepts(contentType: type))
        }
        for type in ["", "text/plain", "application/octet-stream"] {
            #expect(!JSON.accepts(contentType: type))
        }
    }
}

@Suite("Codecs")
struct OtherCodecTests {
    @Test("bytes go as they are, in each type that carries them")
    func bytes() {
        let bytes: [UInt8] = [0, 255, 10, 13, 0]
        #expect(BytesCodec<[UInt8]>().decode(BytesCodec<[UInt8]>().encode(bytes)) == bytes)
        #expect(BytesCodec<Data>().decode(BytesCodec<Data>().encode(Data(bytes))) == Data(bytes))
        #expect(BytesCodec<ByteBuffer>().encode(ByteBuffer(bytes: bytes)) == ByteBuffer(bytes: bytes))
    }

    @Test("text goes as UTF-8, and bytes that are none are refused")
    func text() throws {
        #expect(try TextCodec().decode(TextCodec().encode("grüße 🙂")) == "grüße 🙂")
        #expect(try TextCodec().decode(ByteBuffer()) == "")
        #expect(throws: RPCCodecError.self) { try TextCodec().decode(ByteBuffer(bytes: [0x67, 0xFF])) }
    }

    @Test("each codec reads its own content type, in any case and with parameters, and none at all")
    func accepts() {
        let codecs: [any RPCCodec] = [JSONCodec<Int>(), BytesCodec<ByteBuffer>(), TextCodec()]
        for (index, codec) in codecs.enumerated() {
            #expect(codec.accepts(nil))
            #expect(codec.accepts(contentType: codec.contentType))
            #expect(codec.accepts(contentType: codec.contentType.uppercased() + " ; x=\"y\""))
            for (other, another) in codecs.enumerated() where other != index {
                #expect(!codec.accepts(contentType: another.contentType))
            }
            for type in ["", ";", "application", "application/jsonx", "text/html"] {
                #expect(!codec.accepts(contentType: type), "\(codec) \(type)")
            }
        }
        #expect(BytesCodec<Data>(contentType: "image/png").accepts(contentType: "image/PNG"))
        #expect(!BytesCodec<Data>(contentType: "image/png").accepts(contentType: "image/jpeg"))
        #expect(BytesCodec<Data>(acceptsAnyType: true).accepts(contentType: "image/jpeg"))
    }

    @Test(
        "text in another character set is not ours",
        arguments: [
            ("text/plain", true), ("text/plain; charset=UTF-8", true), ("text/plain;charset=\"utf-8\"", true),
            ("text/plain; charset=us-ascii", true), ("text/plain; charset=iso-8859-1", false),
            ("text/plain; format=flowed; charset=utf-16", false), ("text/plain; charset", true),
        ]
    )
    func charset(_ type: String, _ isAccepted: Bool) {
        #expect(TextCodec().accepts(contentType: type) == isAccepted)
    }

    @Test("an error of a codec of one's own is told by its type alone, which quotes no payload")
    func foreignError() {
        struct Secret: Error { var text = "secret" }
        #expect(RPCCodecError(Secret()).description == "Secret")
        #expect(RPCCodecError(RPCCodecError("at 3: no number")).description == "at 3: no number")
    }
}

/// Numbers as decimal text: what a user's own codec may look like.
private struct DecimalCodec: RPCCodec {
    var contentType: String { "text/x-decimal" }

    func encode(_ value: Int) throws(RPCCodecError) -> ByteBuffer {
        guard value >= 0 else { throw RPCCodecError("it is negative") }
        return ByteBuffer(string: String(value))
    }

    func decode(_ bytes: ByteBuffer) throws(RPCCodecError) -> Int {
        guard let value = Int(String(buffer: bytes)) else { throw RPCCodecError("it is no number") }
        return value
    }
}

extension RPCProcedure<[Int], Int> {
    fileprivate static var add: Self { Self("add") }
}

private enum Tools {
    static let upper = RPCProcedure<String, String>("upper", codec: .text)
    static let reverse = RPCProcedure<[UInt8], [UInt8]>("reverse", codec: .bytes)
    static let length = RPCProcedure<String, Int>("length", request: .text, response: .json())
    static let next = RPCProcedure<Int, Int>("next", codec: DecimalCodec())
    static let anything = RPCProcedure<Int, Int>(nil)
}

@Suite("Typed procedures in process")
struct TypedProcedureTests {
    let tools = RPCHandlers {
        RPCHandler(.add) { numbers, _ in numbers.reduce(0, +) }
        RPCHandler(Tools.upper) { text, _ in text.uppercased() }
        RPCHandler(Tools.reverse) { bytes, _ in bytes.reversed() }
        RPCHandler(Tools.length) { text, _ in text.count }
        RPCHandler(Tools.next) { number, _ in number == 9 ? -1 : number + 1 }
        RPCHandler(Tools.anything) { number, _ in -number }
    }

    @Test("the declaration says the name, the types and the codec on both sides")
    func calls() async throws {
        #expect(try await tools.call(.add, [4, 9]) == 13)
        #expect(try await tools.call(Tools.upper, "grüße") == "GRÜSSE")
        #expect(try await tools.call(Tools.reverse, [1, 2, 3]) == [3, 2, 1])
        #expect(try await tools.call(Tools.length, "four") == 4)
        #expect(try await tools.call(Tools.next, 12) == 13)
        #expect(try await tools.call(Tools.anything, 1) == -1)
    }

    @Test("a request of another content type is refused, and nothing runs")
    func mismatch() async {
        await #expect {
            try await tools.call("upper", "json", as: String.self)
        } throws: { error in
            (error as? RPCFailure)?.code == .unsupportedContentType
                && "\(error)".contains(#""application/json" instead of "text/plain; charset=utf-8""#)
        }
    }

    @Test("what a codec refuses is undecodable on the way in, unencodable on the way out")
    func refused() async {
        let wrongType = RPCProcedure<String, Int>("next", request: BytesAsText(), response: DecimalCodec())
        await #expect {
            try await tools.call(wrongType, "nine")
        } throws: {
            ($0 as? RPCFailure) == RPCFailure(code: .undecodableRequest, message: "it is no number")
        }
        await #expect {
            try await tools.call(Tools.next, 9)
        } throws: {
            ($0 as? RPCFailure) == RPCFailure(code: .unencodableResult, message: "it is negative")
        }
    }

    /// Writes text under the content type of decimal numbers.
    private struct BytesAsText: RPCCodec {
        var contentType: String { "text/x-decimal" }
        func encode(_ value: String) -> ByteBuffer { ByteBuffer(string: value) }
        func decode(_ bytes: ByteBuffer) -> String { String(buffer: bytes) }
    }
}
