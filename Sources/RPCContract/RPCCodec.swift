public import NIOCore

/// The encoding of values of one type, and its `content_type`.
///
/// Available codecs: ``JSONCodec`` for `Codable` types (the default everywhere), ``BytesCodec`` and ``TextCodec`` for raw bytes and text,
/// and, with the package trait `Protobuf`, `ProtobufCodec`. A custom codec is a struct, usually without stored properties.
///
/// A codec is called once per message, on the task that calls or answers. It must not block.
public protocol RPCCodec<Value>: Sendable {
    /// The type that it encodes and decodes.
    associatedtype Value

    /// The `content_type` of encoded messages, at most 255 bytes: a media type, for example `application/json`.
    var contentType: String { get }

    /// Whether this codec decodes bytes of that `content_type`.
    ///
    /// Called only when the message has a content type: other clients often omit it, and then the bytes are assumed to be what the
    /// procedure expects. The default compares media types without regard to case and parameters (RFC 9110, section 8.3.1).
    func accepts(contentType: String) -> Bool

    /// Encodes a value.
    ///
    /// - Throws: An ``RPCCodecError`` that says what is invalid without quoting the value, because it is logged and sent.
    func encode(_ value: Value) throws(RPCCodecError) -> ByteBuffer

    /// Decodes a value. The bytes come from the network and are untrusted.
    ///
    /// - Throws: An ``RPCCodecError`` that says what is invalid without quoting the bytes, because it is logged and sent.
    func decode(_ bytes: ByteBuffer) throws(RPCCodecError) -> Value
}

extension RPCCodec {
    /// Whether it is the same media type, ignoring parameters.
    public func accepts(contentType: String) -> Bool {
        MediaType.isSame(contentType, self.contentType)
    }

    /// Whether this codec decodes a message with this content type, or without one.
    package func accepts(_ contentType: String?) -> Bool {
        contentType.map(accepts(contentType:)) ?? true
    }
}

/// Why a value could not be encoded or decoded: the position, and the problem. It does not quote the payload.
public struct RPCCodecError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The error as a sentence, for logs and for the other side.
    public let description: String

    /// Creates an error with this text. It is logged and sent to the other side, so it must not quote the payload.
    public init(_ description: String) {
        self.description = description
    }

    /// Creates an error from an error of `Codable`, with its position and type; of any other error only the type is used, because its text
    /// may quote the payload.
    public init(_ error: any Error) {
        switch error {
        case let error as RPCCodecError: self = error
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
