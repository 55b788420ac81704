import AMQPPool
import ConcurrencyPrimitives
import Logging
import NIOCore
import RPCWire
import Supervision
import Synchronization

/// Everything between the arguments of a call and its result.
extension RPCCaller {
    // MARK: Sending

    nonisolated(nonsending) func sendJSON(
        _ kind: CallKind,
        _ destination: String,
        _ procedure: String?,
        _ argument: some Encodable,
        timeout: Duration?,
        _ options: CallOptions
    ) async throws(RPCError) -> RPCReply {
        let body = try Self.encode { () throws(RPCCodecError) in try JSON.encode(argument) }
        return try await send(kind, destination, procedure, JSON.contentType, body, timeout: timeout, options)
    }

    nonisolated(nonsending) func sendDeclared<Request, Response>(
        _ kind: CallKind,
        _ destination: String,
        _ procedure: RPCProcedure<Request, Response>,
        _ argument: Request,
        timeout: Duration?,
        _ options: CallOptions
    ) async throws(RPCError) -> RPCReply {
        let codec = procedure.request
        let body = try Self.encode { () throws(RPCCodecError) in try codec.encode(argument) }
        return try await send(kind, destination, procedure.name, codec.contentType, body, timeout: timeout, options)
    }

    private static func encode(_ body: () throws(RPCCodecError) -> ByteBuffer) throws(RPCError) -> ByteBuffer {
        do throws(RPCCodecError) {
            return try body()
        } catch {
            throw .invalidRequest("the argument cannot be encoded: \(error)")
        }
    }

    /// Calls with an encoded body and additional headers, and returns the reply undecoded.
    ///
    /// - Parameter isQueue: Whether the destination is a queue, addressed through the default exchange.
    package nonisolated(nonsending) func call(
        _ destination: String,
        isQueue: Bool,
        procedure: String?,
        contentType: String,
        headers: FieldTable,
        body: ByteBuffer,
        timeout: Duration?,
        retry: RPCRetry
    ) async throws(RPCError) -> RPCReply {
        let options = CallOptions(queue: isQueue ? destination : nil, retry: retry)
        return try await send(
            .call,
            destination,
            procedure,
            contentType,
            body,
            headers: headers,
            timeout: timeout,
            options
        )
    }

    /// Sends a request through the interceptors, and waits for its outcome.
    nonisolated(nonsending) func send(
        _ kind: CallKind,
        _ destination: String,
        _ procedure: String?,
        _ contentType: String,
        _ body: ByteBuffer,
        headers: FieldTable = FieldTable(),
        timeout: Duration?,
        _ options: CallOptions
    ) async throws(RPCError) -> RPCReply {
        let id = RequestID()
        let request = OutgoingRequest(
            kind: kind,
            destination: destination,
            procedure: procedure,
            contentType: contentType,
            headers: headers,
            body: body,
            deadline: try deadline(after: timeout ?? configuration.timeout)
        )
        let start = counters.began()
        do throws(RPCError) {
            let reply =
                interceptors.isEmpty
                ? try await exchange(request, id, options) : try await intercepted(request, id, options)
            if let start { counters.ended(destination, procedure, since: start, error: nil) }
            return reply
        } catch {
            if let start { counters.ended(destination, procedure, since: start, error: error) }
            logger.debug("a call failed", metadata: Self.metadata(request, id, error))
            // If many calls fail at once and their callers retry immediately, they would never give up their threads: the recovery from the
            // failure needs them too.
            await Task.yield()
            throw error
        }
    }

    private static func metadata(_ request: OutgoingRequest, _ id: RequestID, _ error: RPCError) -> Logger.Metadata {
        let metadata: Logger.Metadata = [
            LogKey.messageID.rawValue: "\(id)", LogKey.destination.rawValue: "\(request.destination)",
            LogKey.procedure.rawValue: "\(request.procedure ?? "")", LogKey.outcome.rawValue: "\(error.kind)",
            LogKey.error.rawValue: "\(error)",
        ]
        return metadata.escaped
    }

    private func intercepted(
        _ request: OutgoingRequest,
        _ id: RequestID,
        _ options: CallOptions
    ) async throws(RPCError) -> RPCReply {
        let ids = RequestIDs(first: id)
        let deadline = request.deadline.instant
        let all = RPCCallerNext(interceptors[...]) { [self] request throws(RPCError) in
            var (request, options) = (request, options)
            request.deadline = min(request.deadline, deadline)
            guard request.deadline > .now else { throw .timeout(requestMayHaveBeenDelivered: false) }
            if options.queue != nil { options.queue = request.destination }
            return try await exchange(OutgoingRequest(request), ids.next(), options)
        }
        return try await all(request.request(id))
    }

    private nonisolated(nonsending) func exchange(
        _ request: OutgoingRequest,
        _ id: RequestID,
        _ options: CallOptions
    ) async throws(RPCError) -> RPCReply {
        try Self.check(request.destination, options.queue == nil ? "service" : "queue")
        if let procedure = request.procedure { try Self.check(procedure, "procedure") }
        if configuration.whenNobodyServes == .failAtOnce, options.queue == nil, wire == nil,
            await current.value?.isUnserved(request.destination, before: request.deadline) == true
        {
            throw .noReceiver(destination: request.destination)
        }
        let reply: ReplyMessage
        if let wire {
            let isQueue = options.queue != nil
            let message = RequestMessage(
                id: id,
                destination: isQueue ? nil : request.destination,
                procedure: request.procedure,
                replyTo: request.kind == .call ? configuration.names.replyQueue(of: service, id: id) : nil,
                remaining: request.kind == .call ? CompactInstant.now.duration(to: request.deadline) : nil,
                contentType: request.contentType,
                headers: request.headers,
                body: request.body
            )
            let answer = try await wire.send(message, queue: options.queue, before: request.deadline.instant)
            guard let answer else { return RPCReply(contentType: nil) }
            reply = answer
        } else {
            let ending = try await perform(id, request, options)
            guard case .reply(let answer) = ending else { return RPCReply(contentType: nil) }
            reply = answer
        }
        if let failure = reply.failure { throw .remote(failure) }
        return reply.result
    }

    /// RabbitMQ removes line breaks from queue names, and would address another queue than intended.
    private static func check(_ name: String, _ what: String) throws(RPCError) {
        guard !name.hasControlCharacter else {
            throw .invalidRequest("\"\(name.escaped)\" is not a valid name for a \(what): it has a control character")
        }
    }

    /// The deadline of a call that is made now: its own timeout, or the remaining time of the request that this task handles.
    func deadline(after timeout: Duration) throws(RPCError) -> CompactInstant {
        if Task.isCancelled { throw .cancelled(requestMayHaveBeenDelivered: false) }
        let now = CompactInstant.now
        var deadline = now + min(timeout, .milliseconds(RequestMessage.maximumTimeoutMilliseconds))
        if let inherited = RPCDeadline.inherited, inherited < deadline { deadline = inherited }
        guard deadline > now else { throw .timeout(requestMayHaveBeenDelivered: false) }
        return deadline
    }

    nonisolated(nonsending) func perform(
        _ id: RequestID,
        _ request: OutgoingRequest,
        _ options: CallOptions
    ) async throws(RPCError) -> PendingCall.Ending {
        if case .idempotent(_, let backoff) = options.retry, let problem = backoff.problem {
            throw .invalidRequest(problem)
        }
        var options = options
        var ended: CallTable?
        // Its outcome in a table that has ended, when the next table may send it again.
        var doubt: RPCError?
        while true {
            let table: CallTable
            do throws(RPCError) {
                table = try await self.table(otherThan: ended, before: request.deadline)
            } catch {
                throw doubt ?? error
            }
            switch await perform(id, request, options, in: table) {
            case .notAccepted: ended = table
            case .failed(let error):
                throw doubt.flatMap { error.requestMayHaveBeenProcessed ? nil : $0 } ?? error
            // Readiness is checked again with the next table.
            case .restarted where request.kind == .readiness: ended = table
            case .restarted(let reason, let mayHaveBeenDelivered, let retriesLeft):
                let mayHaveBeenDelivered = mayHaveBeenDelivered || doubt != nil
                let error = RPCError.callerRestarted(reason, requestMayHaveBeenDelivered: mayHaveBeenDelivered)
                guard retriesLeft > 0 else { throw error }
                counters.retried()
                options.retry = options.retry.limited(toRetries: retriesLeft - 1)
                doubt = mayHaveBeenDelivered ? error : nil
                ended = table
            case let ending: return ending
            }
        }
    }

    private nonisolated(nonsending) func table(
        otherThan ended: CallTable?,
        before deadline: CompactInstant
    ) async throws(RPCError) -> CallTable {
        // Fast path: usually the table of the last call is still current. If it has ended, it says so.
        if let table = lastTable.withLock({ $0 }), table !== ended { return table }
        lastTable.withLock { $0 = nil }
        do throws(CurrentIncarnation<CallTable>.Absence) {
            let table = try await current.value(otherThan: ended, before: deadline.instant)
            lastTable.withLock { $0 = table }
            return table
        } catch {
            switch error {
            case .ended(.normal), .ended(.shutdown(nil)): throw .notConnected(why: "the caller is stopped")
            case .ended(let reason): throw .notConnected(why: "the caller has ended: \(reason)")
            case .deadline: throw .notConnected(why: "the caller is not running")
            case .cancelled: throw .cancelled(requestMayHaveBeenDelivered: false)
            case .overloaded(let limit): throw .overloaded(limit: limit)
            }
        }
    }

    private nonisolated(nonsending) func perform(
        _ id: RequestID,
        _ request: OutgoingRequest,
        _ options: CallOptions,
        in table: CallTable
    ) async -> PendingCall.Ending {
        await withTaskCancellationHandler {
            await withPendingContinuation { continuation in
                table.begin(
                    PendingCall(
                        id: id,
                        request: request,
                        options: options,
                        table: table,
                        continuation: continuation
                    )
                )
            }
        } onCancel: {
            table.cancel(id)
        }
    }
}

private nonisolated(nonsending) func withPendingContinuation(
    _ body: (PendingContinuation) -> Void
) async -> PendingCall.Ending {
    #if DEBUG
    await withCheckedContinuation(body)
    #else
    await withUnsafeContinuation(body)
    #endif
}

/// The ids of one intercepted call: an interceptor that sends again sends another request.
private final class RequestIDs: Sendable {
    private let first: RequestID
    private let isUsed = Atomic(false)

    init(first: RequestID) {
        self.first = first
    }

    func next() -> RequestID {
        isUsed.exchange(true, ordering: .relaxed) ? RequestID() : first
    }
}

extension RPCReply {
    /// The result of a call without a declaration.
    func json<Output: Decodable>() throws(RPCError) -> Output {
        guard JSON.accepts(contentType: contentType) else {
            throw .unexpectedContentType(contentType ?? "", expected: JSON.contentType)
        }
        return try decode { () throws(RPCCodecError) in try JSON.decode(Output.self, from: body) }
    }

    /// The result of a call with a declaration.
    func decoded<Response>(by codec: any RPCCodec<Response>) throws(RPCError) -> Response {
        guard codec.accepts(contentType) else {
            throw .unexpectedContentType(contentType ?? "", expected: codec.contentType)
        }
        return try decode { () throws(RPCCodecError) in try codec.decode(body) }
    }

    private func decode<Output>(_ body: () throws(RPCCodecError) -> Output) throws(RPCError) -> Output {
        do throws(RPCCodecError) {
            return try body()
        } catch {
            throw .undecodableReply("\(error)")
        }
    }
}
