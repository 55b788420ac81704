import Foundation
package import NIOCore
import NIOFoundationCompat

/// How arguments and results become bytes. JSON is the only one yet; the wire names it by `content_type`.
package protocol RPCCodec: Sendable {
    /// What `content_type` says of this codec's bytes.
    var contentType: String { get }
    /// Whether this codec reads bytes of that `content_type`.
    func accepts(contentType: String?) -> Bool
    /// The bytes of a value.
    func encode<Value: Encodable>(_ value: Value) throws(CodecError) -> ByteBuffer
    /// The value that these bytes say.
    func decode<Value: Decodable>(_ type: Value.Type, from bytes: ByteBuffer) throws(CodecError) -> Value
}

/// Why a value did not become bytes, or bytes no value: where in the value, and what was wrong. It does not quote the payload.
package struct CodecError: Error, Sendable, Hashable, CustomStringConvertible {
    package let description: String

    package init(_ description: String) {
        self.description = description
    }

    init(_ error: any Error) {
        switch error {
        case EncodingError.invalidValue(_, let context): self.init(context)
        case DecodingError.keyNotFound(let key, let context):
            self.init(context, "the key \"\(key.stringValue)\" is missing")
        case DecodingError.typeMismatch(let type, let context): self.init(context, "no value of type \(type)")
        case DecodingError.valueNotFound(let type, let context): self.init(context, "null instead of \(type)")
        case DecodingError.dataCorrupted(let context): self.init(context)
        default: self.init("\(type(of: error))")
        }
    }

    private init(_ context: EncodingError.Context) {
        self.init("\(Self.place(context.codingPath))\(context.debugDescription)")
    }

    private init(_ context: DecodingError.Context, _ problem: String? = nil) {
        self.init("\(Self.place(context.codingPath))\(problem ?? context.debugDescription)")
    }

    private static func place(_ path: [any CodingKey]) -> String {
        guard !path.isEmpty else { return "" }
        return "at " + path.map { $0.intValue.map(String.init) ?? $0.stringValue }.joined(separator: ".") + ": "
    }
}

/// JSON of any `Codable` value, lone numbers, strings and `null` included.
package struct JSONCodec: RPCCodec {
    package init() {}

    package var contentType: String { "application/json" }

    /// JSON under its own name, with or without parameters, and messages that do not name a type: foreign clients often do not.
    package func accepts(contentType: String?) -> Bool {
        guard let contentType else { return true }
        let type = contentType.prefix { $0 != ";" }.lowercased()
        return type == "application/json" || type == "application/json "
    }

    // Making a coder costs more than encoding a small value. They are Sendable, and nobody changes their options.
    private static let encoder = {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return encoder
    }()
    private static let decoder = JSONDecoder()

    package func encode<Value: Encodable>(_ value: Value) throws(CodecError) -> ByteBuffer {
        do {
            return ByteBuffer(data: try Self.encoder.encode(value))
        } catch {
            throw CodecError(error)
        }
    }

    package func decode<Value: Decodable>(_ type: Value.Type, from bytes: ByteBuffer) throws(CodecError) -> Value {
        do {
            return try Self.decoder.decode(type, from: Data(buffer: bytes, byteTransferStrategy: .automatic))
        } catch {
            throw CodecError(error)
        }
    }
}
