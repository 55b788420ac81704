import NIOCore
import NIOPosix
import RPCCaller
import RPCReceiver
import RPCWire
import Synchronization

/// What stands for the broker.
final class InProcessWire: RPCWireReplacement {
    private let services: [String: InProcessReceiver]
    private let queues: [String: InProcessReceiver]

    init(_ receivers: [RPCReceiver]) {
        let pairs = receivers.map { ($0, InProcessReceiver($0)) }
        services = Dictionary(pairs.map { ($0.0.service, $0.1) }) { first, _ in first }
        queues = Dictionary(pairs.map { ($0.0.queueName, $0.1) }) { first, _ in first }
    }

    deinit {
        for service in services.values { service.close() }
    }

    func send(
        _ message: RequestMessage,
        queue: String?,
        before deadline: ContinuousClock.Instant
    ) async throws(RPCError) -> ReplyMessage? {
        let destination = queue ?? message.destination ?? ""
        guard let service = queue.map({ queues[$0] }) ?? services[destination] else {
            throw .unroutable(destination: destination)
        }
        guard message.replyTo != nil else {
            service.deliver(message) { _ in }
            return nil
        }
        let call = InProcessCall()
        let timer = DeadlineTimer(on: MultiThreadedEventLoopGroup.singleton.next()) {
            call.end(.failure(.timeout(requestMayHaveBeenDelivered: true)))
        }
        defer { timer.cancel() }
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                call.begin(continuation)
                timer.arm(deadline)
                service.deliver(message) { call.end(.success($0)) }
            }
        } onCancel: {
            call.end(.failure(.cancelled(requestMayHaveBeenDelivered: true)))
        }
        return try result.get()
    }
}

/// A call that waits: for its reply, its deadline or its cancellation, whichever comes first.
private final class InProcessCall: Sendable {
    private enum State {
        case new
        case waiting(CheckedContinuation<Result<ReplyMessage, RPCError>, Never>)
        case ended(Result<ReplyMessage, RPCError>)
    }

    private let state = Mutex(State.new)

    func begin(_ continuation: CheckedContinuation<Result<ReplyMessage, RPCError>, Never>) {
        let result = state.withLock { state -> Result<ReplyMessage, RPCError>? in
            if case .ended(let result) = state { return result }
            state = .waiting(continuation)
            return nil
        }
        if let result { continuation.resume(returning: result) }
    }

    func end(_ result: Result<ReplyMessage, RPCError>) {
        let continuation = state.withLock { state -> CheckedContinuation<Result<ReplyMessage, RPCError>, Never>? in
            defer { if case .ended = state {} else { state = .ended(result) } }
            if case .waiting(let continuation) = state { return continuation }
            return nil
        }
        continuation?.resume(returning: result)
    }
}
