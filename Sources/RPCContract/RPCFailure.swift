/// An error that crosses the wire: what a handler throws to tell its caller, and what the caller gets.
///
/// A handler that throws an `RPCFailure` sends exactly this. Every other error becomes ``Code-swift.struct/internalError``
/// without its text, which may hold what only the receiver should know.
public struct RPCFailure: Error, Sendable, Hashable {
    /// What kind of failure it is.
    public var code: Code
    /// What happened, for people.
    public var message: String
    /// What happened, for programs: any JSON the receiver wants to add.
    public var details: JSONValue?

    /// A failure to be sent to the caller.
    public init(code: Code, message: String, details: JSONValue? = nil) {
        self.code = code
        self.message = message
        self.details = details
    }

    /// The kind of a failure: a name that both sides agree on. Services add their own; the ones below are the library's.
    public struct Code: RawRepresentable, Sendable, Hashable, ExpressibleByStringLiteral, CustomStringConvertible {
        /// The name as it stands on the wire.
        public let rawValue: String
        /// A code of this name.
        public init(rawValue: String) { self.rawValue = rawValue }
        /// A code of this name.
        public init(stringLiteral value: String) { rawValue = value }
        /// The name.
        public var description: String { rawValue }
    }
}

extension RPCFailure.Code {
    /// The broker sent the request back.
    package static let bounced: Self = "bounced"

    /// The receiver has no procedure of this name. Nothing ran.
    public static let unknownProcedure: Self = "unknown_procedure"
    /// The request's argument or headers are not what the procedure takes. Nothing ran.
    public static let undecodableRequest: Self = "undecodable_request"
    /// The request is written in another content type than the procedure takes. Nothing ran.
    public static let unsupportedContentType: Self = "unsupported_content_type"
    /// The handler threw an error of its own. The request was processed, wholly or in part.
    public static let internalError: Self = "internal"
    /// The handler returned a value that cannot be encoded, or that is larger than a message may be. The request was processed.
    public static let unencodableResult: Self = "unencodable_result"
    /// The handler took longer than the receiver allows and was cancelled. The request may have been processed.
    public static let handlerTimeout: Self = "handler_timeout"
    /// The receiver has too much to do and took nothing of it on. Nothing ran; another attempt later may succeed.
    public static let overloaded: Self = "overloaded"
    /// The request was delivered too often without being answered. It may have been processed.
    public static let poison: Self = "poison"
    /// A service that the receiver called for this request is not there. See ``RPCFailure/requestMayHaveBeenProcessed``.
    public static let upstreamUnroutable: Self = "upstream_unroutable"
    /// A service that the receiver called for this request did not answer in time.
    public static let upstreamTimeout: Self = "upstream_timeout"
    /// A service that the receiver called for this request answered with a failure, whose code is in the details.
    public static let upstreamFailure: Self = "upstream_failure"
    /// The receiver's call to another service was cancelled, or its caller ended.
    public static let upstreamCancelled: Self = "upstream_cancelled"
    /// The receiver could not reach another service, or its answer was lost.
    public static let upstreamUnavailable: Self = "upstream_unavailable"
    /// The receiver has too many calls to other services under way, or the broker took no more.
    public static let upstreamOverloaded: Self = "upstream_overloaded"
    /// The receiver's call to another service was wrong, or it could not read the answer.
    public static let upstreamMistake: Self = "upstream_mistake"
}

extension RPCFailure {
    package static let mayHaveBeenProcessedKey = "request_may_have_been_processed"

    /// Whether the request that failed in this way may have been processed, as far as the code tells.
    ///
    /// Of a call that failed further upstream the details tell: a handler that lets the error of its own call through says that it has
    /// done nothing else of consequence. One that has done so catches it, and throws a failure of its own.
    public var requestMayHaveBeenProcessed: Bool {
        switch code {
        case .unknownProcedure, .undecodableRequest, .unsupportedContentType, .overloaded: return false
        case .upstreamUnroutable, .upstreamTimeout, .upstreamFailure, .upstreamCancelled, .upstreamUnavailable,
            .upstreamOverloaded, .upstreamMistake:
            guard case .object(let members) = details, case .bool(let may) = members[Self.mayHaveBeenProcessedKey]
            else {
                return true
            }
            return may
        default: return true
        }
    }
}

extension RPCFailure.Code {
    /// Whether it is one of those above, and not a service's own.
    package var isOfTheLibrary: Bool {
        switch self {
        case .unknownProcedure, .undecodableRequest, .unsupportedContentType, .internalError, .unencodableResult,
            .handlerTimeout, .overloaded, .poison, .upstreamUnroutable, .upstreamTimeout, .upstreamFailure,
            .upstreamCancelled, .upstreamUnavailable, .upstreamOverloaded, .upstreamMistake:
            true
        default: false
        }
    }
}

extension RPCFailure: CustomStringConvertible {
    /// The code and the message.
    public var description: String { "\(code): \(message)" }
}

extension RPCFailure: Codable {
    private enum CodingKeys: String, CodingKey {
        case code, message, details
    }

    /// Reads `{"code", "message", "details"}`; a missing message is empty.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        code = Code(rawValue: try container.decode(String.self, forKey: .code))
        message = try container.decodeIfPresent(String.self, forKey: .message) ?? ""
        details = try container.decodeIfPresent(JSONValue.self, forKey: .details)
    }

    /// Writes `{"code", "message", "details"}`, without `details` when there are none.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(code.rawValue, forKey: .code)
        try container.encode(message, forKey: .message)
        try container.encodeIfPresent(details, forKey: .details)
    }
}
