/// Why an ``Endpoint`` is invalid. It is fixed by changing the configuration, never by a retry.
///
/// No case contains the password or a part of it.
public enum EndpointError: Error, Sendable, Hashable {
    /// The URI does not begin with `amqp://` or `amqps://`.
    case unsupportedScheme
    /// The URI contains a space, control or non-ASCII character, perhaps the newline at the end of a file.
    case invalidCharacter
    /// There is a second `@`, or one after the host: a `@`, `/`, `?` or `#` in the user name, password or virtual host is not
    /// percent-encoded.
    case ambiguousAt
    /// The URI contains a `#`; a broker's URI has no fragment.
    case fragment
    /// A `%` is not followed by two hexadecimal digits, or the decoded bytes are not UTF-8.
    case invalidPercentEncoding(EndpointPart)
    /// A part contains a NUL, which is not allowed there.
    case containsNUL(EndpointPart)
    /// A part contains a CR or LF, which is not allowed there.
    case containsLineBreak(EndpointPart)
    /// The host is neither a name nor an address.
    case invalidHost(String)
    /// The port is not a number from 1 to 65535.
    case invalidPort(String)
    /// The virtual host contains a `/` that is not percent-encoded.
    case slashInVirtualHost
    /// The name of the virtual host is longer than AMQP can transmit.
    case virtualHostTooLong(bytes: Int, limit: Int)
    /// RabbitMQ's URI specification does not have this query parameter.
    case unknownParameter(String)
    /// A query parameter is repeated.
    case repeatedParameter(String)
    /// The value of a query parameter is invalid.
    case invalidParameter(name: String, expected: String)
    /// The query parameter is valid for `amqps` only.
    case parameterNeedsTLS(String)
    /// The query parameter needs another one.
    case parameterNeeds(String, String)
    /// This client supports none of the requested mechanisms.
    case mechanismNotAvailable(String)
}

/// A part of a URI, to name it in an error.
public enum EndpointPart: String, Sendable, Hashable {
    /// Before the `:` of the user information.
    case username = "user name"
    /// After the `:` of the user information.
    case password
    /// The host.
    case host
    /// The path.
    case virtualHost = "virtual host"
    /// A name or value of the query.
    case parameter = "query parameter"
}

extension EndpointError: CustomStringConvertible {
    /// What is invalid, and how to write it.
    public var description: String {
        switch self {
        case .unsupportedScheme:
            "the URI does not begin with amqp:// or amqps://"
        case .invalidCharacter:
            "the URI contains a space, a control character or a non-ASCII character; percent-encode it"
        case .ambiguousAt:
            "the URI has more than one @, or one after the host; write @ as %40, / as %2F, ? as %3F and # as %23 within "
                + "user, password and virtual host"
        case .fragment:
            "the URI contains a #; write it as %23 within user, password and virtual host"
        case .invalidPercentEncoding(let part):
            "the \(part.rawValue) has a % that does not begin a percent-encoded character of UTF-8; write % as %25"
        case .containsNUL(let part):
            "the \(part.rawValue) contains a NUL"
        case .containsLineBreak(let part):
            "the \(part.rawValue) contains a line break"
        case .invalidHost(let host):
            "\"\(host)\" is not a host; an IPv6 address goes into brackets"
        case .invalidPort(let port):
            "\"\(port)\" is not a port from 1 to 65535"
        case .slashInVirtualHost:
            "the virtual host contains a /; write it as %2F, the virtual host / as amqp://host/%2F or without a path"
        case .virtualHostTooLong(let bytes, let limit):
            "the virtual host is \(bytes) bytes of UTF-8, and at most \(limit) can be sent"
        case .unknownParameter(let name):
            "\"\(name)\" is not a query parameter of RabbitMQ's URI specification"
        case .repeatedParameter(let name):
            "the query parameter \(name) is repeated"
        case .invalidParameter(let name, let expected):
            "the query parameter \(name) must be \(expected)"
        case .parameterNeedsTLS(let name):
            "the query parameter \(name) needs amqps://"
        case .parameterNeeds(let name, let other):
            "the query parameter \(name) needs \(other)"
        case .mechanismNotAvailable(let mechanisms):
            "the authentication mechanisms are plain and external, and the URI asks for \(mechanisms)"
        }
    }
}
