public import Foundation
public import NIOCore
import NIOFoundationCompat

/// A codec for raw bytes: `ByteBuffer`, `[UInt8]` or `Data`.
///
///     static let resize = RPCProcedure<ByteBuffer, ByteBuffer>("resize", codec: .bytes)
public struct BytesCodec<Value: RPCBytes>: RPCCodec {
    /// The content type; `application/octet-stream` by default.
    public let contentType: String
    private let acceptsAnyType: Bool

    /// Creates a codec of one content type.
    ///
    /// - Parameters:
    ///   - contentType: The content type, for example `image/png`.
    ///   - acceptsAnyType: Whether bytes of every other content type are accepted too: for gateways that pass messages on.
    public init(contentType: String = "application/octet-stream", acceptsAnyType: Bool = false) {
        self.contentType = contentType
        self.acceptsAnyType = acceptsAnyType
    }

    /// Whether this codec decodes the content type.
    public func accepts(contentType: String) -> Bool {
        acceptsAnyType || MediaType.isSame(contentType, self.contentType)
    }

    /// Returns the bytes. Never throws.
    public func encode(_ value: Value) -> ByteBuffer { value.rpcBytes }

    /// Returns the bytes. Never throws.
    public func decode(_ bytes: ByteBuffer) -> Value { Value(rpcBytes: bytes) }
}

/// A type that ``BytesCodec`` can carry.
public protocol RPCBytes: SendableMetatype {
    /// Creates a value from these bytes.
    init(rpcBytes: ByteBuffer)
    /// The bytes.
    var rpcBytes: ByteBuffer { get }
}

extension ByteBuffer: RPCBytes {
    /// Returns the same buffer.
    public init(rpcBytes: ByteBuffer) { self = rpcBytes }
    /// Returns the same buffer.
    public var rpcBytes: ByteBuffer { self }
}

extension [UInt8]: RPCBytes {
    /// Copies the bytes.
    public init(rpcBytes: ByteBuffer) { self = Array(rpcBytes.readableBytesView) }
    /// Copies the bytes.
    public var rpcBytes: ByteBuffer { ByteBuffer(bytes: self) }
}

extension Data: RPCBytes {
    /// Copies the bytes, or shares the memory where that is cheaper.
    public init(rpcBytes: ByteBuffer) { self = Data(buffer: rpcBytes) }
    /// Copies the bytes.
    public var rpcBytes: ByteBuffer { ByteBuffer(data: self) }
}

extension RPCCodec where Self == BytesCodec<ByteBuffer> {
    /// Raw bytes as `application/octet-stream`.
    public static var bytes: Self { Self() }
}

extension RPCCodec where Self == BytesCodec<[UInt8]> {
    /// Raw bytes as `application/octet-stream`.
    public static var bytes: Self { Self() }
}

extension RPCCodec where Self == BytesCodec<Data> {
    /// Raw bytes as `application/octet-stream`.
    public static var bytes: Self { Self() }
}
