public import Foundation
public import NIOCore
import NIOFoundationCompat

/// The bytes as they are, for those who write and read them themselves: `ByteBuffer`, `[UInt8]` or `Data`.
///
///     static let resize = RPCProcedure<ByteBuffer, ByteBuffer>("resize", codec: .bytes)
public struct BytesCodec<Value: RPCBytes>: RPCCodec {
    /// `application/octet-stream` unless another one was given.
    public let contentType: String
    private let acceptsAnyType: Bool

    /// The codec of bytes of one content type.
    ///
    /// - Parameters:
    ///   - contentType: What the bytes are called, such as `image/png`.
    ///   - acceptsAnyType: Whether bytes of every other content type are read too: for gateways that pass on what they get.
    public init(contentType: String = "application/octet-stream", acceptsAnyType: Bool = false) {
        self.contentType = contentType
        self.acceptsAnyType = acceptsAnyType
    }

    /// Whether the bytes are of this content type.
    public func accepts(contentType: String) -> Bool {
        acceptsAnyType || MediaType.isSame(contentType, self.contentType)
    }

    /// The bytes. It never throws.
    public func encode(_ value: Value) -> ByteBuffer { value.rpcBytes }

    /// The bytes. It never throws.
    public func decode(_ bytes: ByteBuffer) -> Value { Value(rpcBytes: bytes) }
}

/// What ``BytesCodec`` carries.
public protocol RPCBytes: SendableMetatype {
    /// A value of these bytes.
    init(rpcBytes: ByteBuffer)
    /// Its bytes.
    var rpcBytes: ByteBuffer { get }
}

extension ByteBuffer: RPCBytes {
    /// The same.
    public init(rpcBytes: ByteBuffer) { self = rpcBytes }
    /// The same.
    public var rpcBytes: ByteBuffer { self }
}

extension [UInt8]: RPCBytes {
    /// A copy.
    public init(rpcBytes: ByteBuffer) { self = Array(rpcBytes.readableBytesView) }
    /// A copy.
    public var rpcBytes: ByteBuffer { ByteBuffer(bytes: self) }
}

extension Data: RPCBytes {
    /// A copy, or the same memory where that is cheaper.
    public init(rpcBytes: ByteBuffer) { self = Data(buffer: rpcBytes) }
    /// A copy.
    public var rpcBytes: ByteBuffer { ByteBuffer(data: self) }
}

extension RPCCodec where Self == BytesCodec<ByteBuffer> {
    /// Bytes as they are, as `application/octet-stream`.
    public static var bytes: Self { Self() }
}

extension RPCCodec where Self == BytesCodec<[UInt8]> {
    /// Bytes as they are, as `application/octet-stream`.
    public static var bytes: Self { Self() }
}

extension RPCCodec where Self == BytesCodec<Data> {
    /// Bytes as they are, as `application/octet-stream`.
    public static var bytes: Self { Self() }
}
