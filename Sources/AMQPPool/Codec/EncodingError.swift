/// Why something was not sent: it cannot be put into AMQP frames, or the broker would close the channel for it.
///
/// Found before the first byte is written, so the connection and the channel are as they were, and nothing was sent.
/// Sending the same thing again fails again.
public enum EncodingError: Error, Sendable, Hashable {
    /// A name or property is longer than a short string may be. `bytes` counts UTF-8, not characters.
    case shortStringTooLong(field: String, bytes: Int, limit: Int)
    /// A name or property contains the character NUL, which AMQP 0-9-1 (section 4.2.5.3) forbids in short strings.
    case containsNUL(field: String)
    /// The properties with their headers do not fit into one frame, and AMQP cannot split them. Counting stopped at
    /// `bytes`; `limit` is the room there is.
    case headersTooLarge(bytes: Int, limit: Int)
    /// The arguments of a declaration, binding or other method do not fit into one frame.
    case argumentsTooLarge(bytes: Int, limit: Int)
    /// Tables and arrays are nested within each other more than `limit` levels deep.
    case nestedTooDeeply(limit: Int)
    /// More than `limit` values in the headers or arguments, those within tables and arrays included.
    case tooManyFields(limit: Int)
    /// A floating-point number is infinite or NaN: RabbitMQ cannot read it, and closes the connection.
    case notFinite
    /// An expiration must be 0 to 4294967295 milliseconds in decimal digits; the broker closes the channel for any other.
    case invalidExpiration(String)
    /// The headers `CC` and `BCC` name further routing keys in an array; the broker closes the channel for any other value.
    case invalidCopies(header: String)
    /// A method that carries no content was given some, or it is not one this client can send.
    case unsupportedMethod(String)
    /// No memory was left to encode it in.
    case outOfMemory
}

extension EncodingError: CustomStringConvertible {
    /// What is wrong, with the name of the field and the limit.
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
