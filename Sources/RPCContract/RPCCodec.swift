public import NIOCore

/// How the values of one type become the bytes of a message, and what `content_type` says of them.
///
/// Ready made: ``JSONCodec`` for `Codable` types (the default everywhere), ``BytesCodec`` and ``TextCodec`` for those who write
/// the bytes themselves, and, with the package trait `Protobuf`, `ProtobufCodec`. Your own is a struct, mostly without stored
/// properties.
///
/// A codec is called once for each message, on the task that calls or answers. It must not block.
public protocol RPCCodec<Value>: Sendable {
    /// What it writes and reads.
    associatedtype Value

    /// What messages of this codec carry as `content_type`, at most 255 bytes: a media type, such as `application/json`.
    var contentType: String { get }

    /// Whether this codec reads bytes of that `content_type`.
    ///
    /// It is asked only when the message has one: foreign clients often leave it out, and then the bytes are what the procedure
    /// takes. The default compares media types without regard to case and to parameters (RFC 9110, section 8.3.1).
    func accepts(contentType: String) -> Bool

    /// The bytes of a value.
    ///
    /// - Throws: An ``RPCCodecError`` that tells what is wrong with the value without quoting it: it is logged, and sent.
    func encode(_ value: Value) throws(RPCCodecError) -> ByteBuffer

    /// The value that these bytes say. They come from the network: anything may stand in them.
    ///
    /// - Throws: An ``RPCCodecError`` that tells what is wrong with the bytes without quoting them: it is logged, and sent.
    func decode(_ bytes: ByteBuffer) throws(RPCCodecError) -> Value
}

extension RPCCodec {
    /// Whether it is the same media type, whatever its parameters.
    public func accepts(contentType: String) -> Bool {
        MediaType.isSame(contentType, self.contentType)
    }

    /// Whether a message is for this codec: one without a content type is.
    package func accepts(_ contentType: String?) -> Bool {
        contentType.map(accepts(contentType:)) ?? true
    }
}

/// Why a value did not become bytes, or bytes no value: where in the value, and what was wrong. It does not quote the payload.
public struct RPCCodecError: Error, Sendable, Hashable, CustomStringConvertible {
    /// One sentence for logs and for the other side.
    public let description: String

    /// An error with these words. They are logged and sent to the other side: they must not quote the payload.
    public init(_ description: String) {
        self.description = description
    }

    /// What `Codable` complains about, by place and type; of any other error its type alone, since its text may quote the payload.
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
