#if Protobuf
import Foundation
public import NIOCore
import NIOFoundationCompat
public import SwiftProtobuf

/// Protocol Buffers in binary form. Available only with the package trait `Protobuf`.
///
///     static let quote = RPCProcedure<Quote_Request, Quote_Response>("quote")
public struct ProtobufCodec<Value: Message & SendableMetatype>: RPCCodec {
    /// Creates the codec.
    public init() {}

    /// `application/x-protobuf`
    public var contentType: String { "application/x-protobuf" }

    /// Accepts any of the common names of Protocol Buffers.
    public func accepts(contentType: String) -> Bool {
        ["application/x-protobuf", "application/protobuf", "application/vnd.google.protobuf"]
            .contains(MediaType.essence(of: contentType))
    }

    /// Encodes the message in binary form.
    ///
    /// - Throws: When a required field (of proto2) is missing.
    public func encode(_ value: Value) throws(RPCCodecError) -> ByteBuffer {
        do {
            let data: Data = try value.serializedBytes()
            return ByteBuffer(data: data)
        } catch {
            throw RPCCodecError("\(Value.protoMessageName) cannot be encoded: \(error)")
        }
    }

    /// Decodes a message.
    ///
    /// - Throws: When the bytes are not a message, or are nested more than 100 levels deep.
    public func decode(_ bytes: ByteBuffer) throws(RPCCodecError) -> Value {
        do {
            return try Value(serializedBytes: Data(buffer: bytes, byteTransferStrategy: .automatic))
        } catch {
            throw RPCCodecError("the bytes are not a \(Value.protoMessageName): \(error)")
        }
    }
}

extension RPCCodec {
    /// Protocol Buffers in binary form.
    public static func protobuf<Value>() -> Self where Self == ProtobufCodec<Value> { ProtobufCodec() }
}

extension RPCProcedure where Request: Message & SendableMetatype, Response: Message & SendableMetatype {
    /// Creates a procedure with Protocol Buffers as argument and result.
    ///
    /// - Parameter name: The name on the wire, compared byte by byte; `nil` for a service's default procedure.
    public init(_ name: String?) {
        self.init(name, request: ProtobufCodec(), response: ProtobufCodec())
    }
}
#endif
