import Foundation
public import NIOCore
import NIOFoundationCompat

/// JSON of any `Codable` value, including single numbers, strings and `null`: the default of every call and procedure.
///
/// Object keys are sorted, so equal values have equal bytes. Dates and data are encoded as by `Codable`: as seconds since 2001, and as
/// base64.
public struct JSONCodec<Value: Codable & SendableMetatype>: RPCCodec {
    /// Creates the codec.
    public init() {}

    /// `application/json`
    public var contentType: String { JSON.contentType }

    /// Encodes the value as JSON.
    ///
    /// - Throws: Which value cannot be encoded, for example an infinite number, and its position.
    public func encode(_ value: Value) throws(RPCCodecError) -> ByteBuffer {
        try JSON.encode(value)
    }

    /// Decodes a value from JSON.
    ///
    /// - Throws: What is invalid, and its position.
    public func decode(_ bytes: ByteBuffer) throws(RPCCodecError) -> Value {
        try JSON.decode(Value.self, from: bytes)
    }
}

extension RPCCodec {
    /// JSON of any `Codable` value.
    public static func json<Value>() -> Self where Self == JSONCodec<Value> { JSONCodec() }
}

/// JSON of values whose type is known only at the call.
package enum JSON {
    package static let contentType = "application/json"

    // Creating a coder costs more than encoding a small value. They are Sendable, and their options are never changed.
    private static let encoder = {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return encoder
    }()
    private static let decoder = JSONDecoder()

    /// Whether the content type is JSON or absent.
    package static func accepts(contentType: String?) -> Bool {
        contentType.map { MediaType.isSame($0, Self.contentType) } ?? true
    }

    package static func encode(_ value: some Encodable) throws(RPCCodecError) -> ByteBuffer {
        do {
            try EncodingDepth.check(value)
            return ByteBuffer(data: try encoder.encode(value))
        } catch {
            throw RPCCodecError(error)
        }
    }

    package static func decode<Value: Decodable>(
        _ type: Value.Type,
        from bytes: ByteBuffer
    ) throws(RPCCodecError) -> Value {
        do {
            return try decoder.decode(type, from: Data(buffer: bytes, byteTransferStrategy: .automatic))
        } catch {
            throw RPCCodecError(error)
        }
    }
}
