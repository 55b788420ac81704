#if Protobuf
import Foundation
public import NIOCore
import NIOFoundationCompat
public import SwiftProtobuf

/// Protocol Buffers in their binary form. Part of the library only with the package trait `Protobuf`.
///
///     static let quote = RPCProcedure<Quote_Request, Quote_Response>("quote")
public struct ProtobufCodec<Value: Message & SendableMetatype>: RPCCodec {
    /// The codec of this message.
    public init() {}

    /// `application/x-protobuf`
    public var contentType: String { "application/x-protobuf" }

    /// Any of the names that Protocol Buffers go by.
    public func accepts(contentType: String) -> Bool {
        ["application/x-protobuf", "application/protobuf", "application/vnd.google.protobuf"]
            .contains(MediaType.essence(of: contentType))
    }

    /// The message's binary form.
    ///
    /// - Throws: When a required field (of proto2) is missing.
    public func encode(_ value: Value) throws(RPCCodecError) -> ByteBuffer {
        do {
            let data: Data = try value.serializedBytes()
            return ByteBuffer(data: data)
        } catch {
            throw RPCCodecError("\(Value.protoMessageName) cannot be written: \(error)")
        }
    }

    /// The message that these bytes say.
    ///
    /// - Throws: When they are not one, or nest deeper than 100 levels.
    public func decode(_ bytes: ByteBuffer) throws(RPCCodecError) -> Value {
        do {
            return try Value(serializedBytes: Data(buffer: bytes, byteTransferStrategy: .automatic))
        } catch {
            throw RPCCodecError("the bytes are no \(Value.protoMessageName): \(error)")
        }
    }
}

extension RPCCodec {
    /// Protocol Buffers in their binary form.
    public static func protobuf<Value>() -> Self where Self == ProtobufCodec<Value> { ProtobufCodec() }
}

extension RPCProcedure where Request: Message & SendableMetatype, Response: Message & SendableMetatype {
    /// A procedure that takes and returns Protocol Buffers.
    ///
    /// - Parameter name: The name on the wire, compared byte by byte; `nil` for a service's default procedure.
    public init(_ name: String?) {
        self.init(name, request: ProtobufCodec(), response: ProtobufCodec())
    }
}
#endif
