/// An error that crosses the wire: thrown by a handler to its caller.
///
/// A handler that throws an `RPCFailure` sends exactly this. Every other error becomes ``Code-swift.struct/internalError`` without its
/// text, which may contain internals of the receiver.
public struct RPCFailure: Error, Sendable, Hashable {
    /// The kind of failure.
    public var code: Code
    /// What happened, for people.
    public var message: String
    /// What happened, for programs: any JSON that the receiver adds.
    public var details: JSONValue?

    /// Creates a failure for the caller.
    public init(code: Code, message: String, details: JSONValue? = nil) {
        self.code = code
        self.message = message
        self.details = details
    }

    /// The kind of a failure: a name that both sides agree on. Services add their own; the library's are listed below.
    public struct Code: RawRepresentable, Sendable, Hashable, ExpressibleByStringLiteral, CustomStringConvertible {
        /// The name on the wire.
        public let rawValue: String
        /// Creates a code with this name.
        public init(rawValue: String) { self.rawValue = rawValue }
        /// Creates a code with this name.
        public init(stringLiteral value: String) { rawValue = value }
        /// The name.
        public var description: String { rawValue }
    }
}

extension RPCFailure.Code {
    /// The broker returned the request.
    package static let bounced: Self = "bounced"

    /// The receiver has no procedure of this name. Nothing ran.
    public static let unknownProcedure: Self = "unknown_procedure"
    /// The request's argument or headers are invalid for the procedure. Nothing ran.
    public static let undecodableRequest: Self = "undecodable_request"
    /// The content type of the request is not the procedure's. Nothing ran.
    public static let unsupportedContentType: Self = "unsupported_content_type"
    /// The handler threw an error of its own. The request was processed, completely or partially.
    public static let internalError: Self = "internal"
    /// The handler returned a value that cannot be encoded, or is larger than a message may be. The request was processed.
    public static let unencodableResult: Self = "unencodable_result"
    /// The handler exceeded the receiver's time limit and was cancelled. The request may have been processed.
    public static let handlerTimeout: Self = "handler_timeout"
    /// The receiver is overloaded and did not accept the request. Nothing ran; a later attempt may succeed.
    public static let overloaded: Self = "overloaded"
    /// The request was delivered too often without being answered. It may have been processed.
    public static let poison: Self = "poison"
    /// A service that the receiver called for this request does not exist. See ``RPCFailure/requestMayHaveBeenProcessed``.
    public static let upstreamUnroutable: Self = "upstream_unroutable"
    /// A service that the receiver called for this request did not answer in time.
    public static let upstreamTimeout: Self = "upstream_timeout"
    /// A service that the receiver called for this request answered with a failure, whose code is in the details.
    public static let upstreamFailure: Self = "upstream_failure"
    /// The receiver's call to another service was cancelled, or the receiver's own RPC caller ended.
    public static let upstreamCancelled: Self = "upstream_cancelled"
    /// The receiver could not reach another service, or its answer was lost.
    public static let upstreamUnavailable: Self = "upstream_unavailable"
    /// The receiver has too many calls to other services in flight, or the broker accepted no more.
    public static let upstreamOverloaded: Self = "upstream_overloaded"
    /// The receiver's call to another service was invalid, or it could not decode the answer.
    public static let upstreamMistake: Self = "upstream_mistake"
}

extension RPCFailure {
    package static let mayHaveBeenProcessedKey = "request_may_have_been_processed"

    /// Whether the request that failed may have been processed, according to the code.
    ///
    /// For a call that failed upstream the details decide: a handler that does not catch the error of its own call asserts that it has done
    /// nothing else of consequence. Otherwise it has to catch the error and throw its own failure.
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
    /// Whether this is one of the library's codes instead of a service's own.
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

    /// Decodes `{"code", "message", "details"}`; a missing message is empty.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        code = Code(rawValue: try container.decode(String.self, forKey: .code))
        message = try container.decodeIfPresent(String.self, forKey: .message) ?? ""
        details = try container.decodeIfPresent(JSONValue.self, forKey: .details)
    }

    /// Encodes `{"code", "message", "details"}`, without `details` when there are none.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(code.rawValue, forKey: .code)
        try container.encode(message, forKey: .message)
        try container.encodeIfPresent(details, forKey: .details)
    }
}
