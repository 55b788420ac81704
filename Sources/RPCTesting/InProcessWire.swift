import AMQPPool
import ConcurrencyPrimitives
import Logging
import NIOCore
import NIOPosix
import RPCCaller
import RPCReceiver
import RPCWire

/// The in-process stand-in for the broker.
final class InProcessWire: RPCWireReplacement {
    private let services: [String: InProcessReceiver]
    private let queues: [String: InProcessReceiver]
    private let connection: ConnectionConfiguration
    private let exchange: String
    /// Why the caller would not start with a broker.
    private let callersError: RPCConfigurationError?

    /// Receivers that would not start with a broker are omitted.
    init(_ receivers: [RPCReceiver], caller: String, configuration: RPCCallerConfiguration, logger: Logger) {
        connection = configuration.pool.connection
        exchange = configuration.names.exchange
        callersError = Self.error { () throws(RPCConfigurationError) in try configuration.check(service: caller) }
        var services: [String: InProcessReceiver] = [:]
        var queues: [String: InProcessReceiver] = [:]
        for receiver in receivers {
            do throws(RPCConfigurationError) {
                let inProcess = try InProcessReceiver(receiver)
                if services[receiver.service] == nil { services[receiver.service] = inProcess }
                if queues[receiver.queueName] == nil { queues[receiver.queueName] = inProcess }
            } catch {
                logger.error(
                    "a receiver is left out: it would not start",
                    metadata: ["service": "\(receiver.service)", "error": "\(error)"]
                )
            }
        }
        self.services = services
        self.queues = queues
    }

    private static func error(
        _ body: () throws(RPCConfigurationError) -> Void
    ) -> RPCConfigurationError? {
        do throws(RPCConfigurationError) {
            try body()
            return nil
        } catch {
            return error
        }
    }

    func send(
        _ message: RequestMessage,
        queue: String?,
        before deadline: ContinuousClock.Instant
    ) async throws(RPCError) -> ReplyMessage? {
        if let callersError { throw .notConnected(why: "\(callersError)") }
        let publish = Publish(
            exchange: queue == nil ? exchange : "",
            routingKey: queue ?? "",
            mandatory: true,
            properties: message.properties,
            body: message.body
        )
        if let refusal = publish.refusal(by: connection) { throw .invalidRequest("\(refusal)") }
        let destination = queue ?? message.destination ?? ""
        guard let service = queue.map({ queues[$0] }) ?? services[destination] else {
            throw .unroutable(destination: destination)
        }
        guard message.replyTo != nil else {
            service.deliver(message) { _ in }
            return nil
        }
        let answer = OneShot<Result<ReplyMessage, RPCError>>()
        let timer = DeadlineTimer(on: MultiThreadedEventLoopGroup.singleton.next()) {
            answer.set(.failure(.timeout(requestMayHaveBeenDelivered: true)))
        }
        defer { timer.cancel() }
        timer.arm(deadline)
        service.deliver(message) { answer.set(.success($0)) }
        let result = await answer.wait() ?? .failure(.cancelled(requestMayHaveBeenDelivered: true))
        return try result.get()
    }
}
