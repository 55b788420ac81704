/// Why something was not sent: it cannot be encoded as AMQP frames, or the broker would close the channel because of it.
///
/// Detected before the first byte is written, so the connection and channel are unchanged. Sending the same thing again fails again.
public enum EncodingError: Error, Sendable, Hashable {
    /// A name or property is longer than a short string may be. `bytes` counts UTF-8 bytes, not characters.
    case shortStringTooLong(field: String, bytes: Int, limit: Int)
    /// A name or property contains a NUL, which AMQP 0-9-1 (section 4.2.5.3) forbids in short strings.
    case containsNUL(field: String)
    /// The properties with their headers do not fit into one frame, and AMQP cannot split them. Counting stopped at `bytes`; `limit` is the
    /// available room.
    case headersTooLarge(bytes: Int, limit: Int)
    /// The arguments of a declaration, binding or other method do not fit into one frame.
    case argumentsTooLarge(bytes: Int, limit: Int)
    /// Tables and arrays are nested more than `limit` levels deep.
    case nestedTooDeeply(limit: Int)
    /// The headers or arguments have more than `limit` values, including those in nested tables and arrays.
    case tooManyFields(limit: Int)
    /// A floating-point number is infinite or NaN: RabbitMQ cannot decode it, and closes the connection.
    case notFinite
    /// An expiration must be 0 to 4294967295 milliseconds in decimal digits; the broker closes the channel for any other.
    case invalidExpiration(String)
    /// The headers `CC` and `BCC` must be arrays of further routing keys; the broker closes the channel for any other value.
    case invalidCopies(header: String)
    /// Content was given with a method that carries none, or this client cannot send the method.
    case unsupportedMethod(String)
    /// Memory for encoding could not be allocated.
    case outOfMemory
}

extension EncodingError: CustomStringConvertible {
    /// The error as a sentence, with the name of the field and the limit.
    public var description: String {
        switch self {
        case .shortStringTooLong(let field, let bytes, let limit):
            "\(field) is \(bytes) bytes of UTF-8, and at most \(limit) can be sent"
        case .containsNUL(let field):
            "\(field) contains the character NUL"
        case .headersTooLarge(let bytes, let limit):
            "properties and headers take \(bytes) bytes or more, and one frame has room for \(limit)"
        case .argumentsTooLarge(let bytes, let limit):
            "the arguments take \(bytes) bytes or more, and one frame has room for \(limit)"
        case .nestedTooDeeply(let limit):
            "tables and arrays are nested more than \(limit) levels deep"
        case .tooManyFields(let limit):
            "there are more than \(limit) values in one table"
        case .notFinite:
            "a floating-point number is infinite or NaN, which the broker cannot read"
        case .invalidExpiration(let text):
            "the expiration \"\(text.prefix(32))\" is not a number of milliseconds from 0 to 4294967295"
        case .invalidCopies(let header):
            "the header \(header) must be an array of routing keys"
        case .unsupportedMethod(let name):
            "\(name) cannot be sent like this"
        case .outOfMemory:
            "no memory was left to encode the message"
        }
    }
}
