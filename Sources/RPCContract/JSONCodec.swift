import Foundation
public import NIOCore
import NIOFoundationCompat

/// JSON of any `Codable` value, lone numbers, strings and `null` included: the default of every call and procedure.
///
/// Object keys are sorted, so equal values have equal bytes. Dates and data are as `Codable` writes them unless their type says
/// otherwise: seconds since 2001, and base64.
public struct JSONCodec<Value: Codable & SendableMetatype>: RPCCodec {
    /// The codec of this type.
    public init() {}

    /// `application/json`
    public var contentType: String { JSON.contentType }

    /// The value as JSON.
    ///
    /// - Throws: What cannot be written, such as a number that is infinite, and where it stands.
    public func encode(_ value: Value) throws(RPCCodecError) -> ByteBuffer {
        try JSON.encode(value)
    }

    /// The value that this JSON says.
    ///
    /// - Throws: What is wrong, and where it stands.
    public func decode(_ bytes: ByteBuffer) throws(RPCCodecError) -> Value {
        try JSON.decode(Value.self, from: bytes)
    }
}

extension RPCCodec {
    /// JSON of any `Codable` value.
    public static func json<Value>() -> Self where Self == JSONCodec<Value> { JSONCodec() }
}

/// JSON of values whose type is known only where they are written or read.
package enum JSON {
    package static let contentType = "application/json"

    // Making a coder costs more than encoding a small value. They are Sendable, and nobody changes their options.
    private static let encoder = {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return encoder
    }()
    private static let decoder = JSONDecoder()

    /// Whether bytes of this content type are JSON; those without one are.
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
