public import NIOCore

/// Plain UTF-8 text, as sent by simple clients in other languages, including RabbitMQ's tutorials.
///
///     static let fib = RPCProcedure<String, String>("fib", codec: .text)
public struct TextCodec: RPCCodec {
    /// Creates the codec.
    public init() {}

    /// `text/plain; charset=utf-8`
    public var contentType: String { "text/plain; charset=utf-8" }

    /// Accepts plain text, unless its character set is neither UTF-8 nor ASCII.
    public func accepts(contentType: String) -> Bool {
        guard MediaType.isSame(contentType, self.contentType) else { return false }
        guard let charset = MediaType.parameter("charset", of: contentType)?.lowercased() else { return true }
        return charset == "utf-8" || charset == "utf8" || charset == "us-ascii"
    }

    /// Encodes the text as UTF-8. Never throws.
    public func encode(_ value: String) -> ByteBuffer { ByteBuffer(string: value) }

    /// Decodes UTF-8 text.
    ///
    /// - Throws: When the bytes are not UTF-8.
    public func decode(_ bytes: ByteBuffer) throws(RPCCodecError) -> String {
        guard let text = String(validating: bytes.readableBytesView, as: UTF8.self) else {
            throw RPCCodecError("the text is not UTF-8")
        }
        return text
    }
}

extension RPCCodec where Self == TextCodec {
    /// Plain UTF-8 text.
    public static var text: Self { Self() }
}
