import NIOCore
import RPCWire
import Testing

@Suite("The JSON codec")
struct CodecTests {
    let codec = JSONCodec()

    @Test(
        "any JSON value is written and read back as itself",
        arguments: [
            "null", "true", "13", "-9223372036854775808", "0.5", #""text \" ü""#, "[]", "{}", "[4,9]",
            #"{"a":[1,{"b":null}],"c":"d"}"#, "1e+300",
        ]
    )
    func fragments(_ text: String) throws {
        let value = try codec.decode(JSONValue.self, from: ByteBuffer(string: text))
        #expect(String(buffer: try codec.encode(value)) == text)
        #expect(value.description == text)
        #expect(try JSONValue(parsing: text) == value)
    }

    @Test("a lone number, string and null are values of Swift's types too")
    func lone() throws {
        #expect(try codec.decode(Int.self, from: ByteBuffer(string: "13")) == 13)
        #expect(try codec.decode(String.self, from: ByteBuffer(string: #""x""#)) == "x")
        #expect(try codec.decode(Int?.self, from: ByteBuffer(string: "null")) == nil)
        #expect(String(buffer: try codec.encode(13)) == "13")
        #expect(String(buffer: try codec.encode("x")) == #""x""#)
        #expect(String(buffer: try codec.encode(Int?.none)) == "null")
    }

    @Test("what is wrong with a value is told by place, without the value")
    func errors() {
        struct Order: Decodable {
            var items: [Int]
        }
        #expect {
            try codec.decode(Order.self, from: ByteBuffer(string: #"{"items":[1,"secret"]}"#))
        } throws: { error in
            "\(error)".contains("items") && !"\(error)".contains("secret")
        }
        #expect {
            try codec.decode(Order.self, from: ByteBuffer(string: "{}"))
        } throws: { error in
            "\(error)" == #"the key "items" is missing"#
        }
        for text in ["", "{", "tru", "[1 2]", "\u{0}"] {
            #expect(throws: CodecError.self) { try codec.decode(JSONValue.self, from: ByteBuffer(string: text)) }
        }
        #expect(throws: CodecError.self) { try codec.encode(Double.nan) }
    }

    @Test("JSON nested as deep as a message allows is refused, and does not crash")
    func nesting() {
        let text = String(repeating: "[", count: 100_000)
        #expect(throws: CodecError.self) { try codec.decode(JSONValue.self, from: ByteBuffer(string: text)) }
    }

    @Test("messages that name JSON, or no type, are JSON")
    func contentTypes() {
        for type in [nil, "application/json", "application/json; charset=utf-8", "Application/JSON"] {
            #expect(codec.accepts(contentType: type))
        }
        for type in ["", "text/plain", "application/octet-stream"] {
            #expect(!codec.accepts(contentType: type))
        }
    }
}
