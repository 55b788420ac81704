import AMQPPool
import NIOCore
import RPCWire

/// The contents and the deadline of a call: an ``RPCRequest`` in a form whose size the compiler knows.
struct OutgoingRequest: Sendable {
    var kind: CallKind
    var destination: String
    var procedure: String?
    var contentType: String?
    var headers = FieldTable()
    var body = ByteBuffer()
    var deadline: CompactInstant
}

extension OutgoingRequest {
    /// Creates the request from the interceptors' result.
    init(_ request: RPCRequest) {
        self.init(
            kind: CallKind(request.kind),
            destination: request.destination,
            procedure: request.procedure,
            contentType: request.contentType,
            headers: request.headers,
            body: request.body,
            deadline: CompactInstant(request.deadline)
        )
    }

    /// The request for interceptors.
    func request(_ id: RequestID) -> RPCRequest {
        RPCRequest(
            kind: kind.awaitsReply ? .call : .cast,
            messageID: id.description,
            destination: destination,
            procedure: procedure,
            contentType: contentType,
            headers: headers,
            body: body,
            deadline: deadline.instant
        )
    }
}
