public import NIOCore

/// Plain text in UTF-8: what simple clients in other languages send, RabbitMQ's tutorials among them.
///
///     static let fib = RPCProcedure<String, String>("fib", codec: .text)
public struct TextCodec: RPCCodec {
    /// The codec.
    public init() {}

    /// `text/plain; charset=utf-8`
    public var contentType: String { "text/plain; charset=utf-8" }

    /// Plain text, unless it says that it is in another character set than UTF-8 and its part ASCII.
    public func accepts(contentType: String) -> Bool {
        guard MediaType.isSame(contentType, self.contentType) else { return false }
        guard let charset = MediaType.parameter("charset", of: contentType)?.lowercased() else { return true }
        return charset == "utf-8" || charset == "utf8" || charset == "us-ascii"
    }

    /// The text in UTF-8. It never throws.
    public func encode(_ value: String) -> ByteBuffer { ByteBuffer(string: value) }

    /// The text of these bytes.
    ///
    /// - Throws: When they are not UTF-8.
    public func decode(_ bytes: ByteBuffer) throws(RPCCodecError) -> String {
        guard let text = String(validating: bytes.readableBytesView, as: UTF8.self) else {
            throw RPCCodecError("the text is not UTF-8")
        }
        return text
    }
}

extension RPCCodec where Self == TextCodec {
    /// Plain text in UTF-8.
    public static var text: Self { Self() }
}
