import AMQPPool
import NIOCore
import RPCWire
import Tracing

/// The trace context of messages, by OpenTelemetry's conventions for messaging.
enum WorkerTracing {
    /// Whether messages are traced.
    static var isOn: Bool { AMQPTracing.automatic.resolved != nil }

    /// Injects a context into the headers of a message.
    static func inject(_ context: ServiceContext? = .current, into headers: inout FieldTable) {
        guard let context, let instruments = AMQPTracing.automatic.resolved else { return }
        instruments.inject(context, into: &headers)
    }

    /// Runs a handler within its own span, the child of the context in the message's headers.
    static func withSpan(
        of message: WorkerContext,
        _ body: () async throws -> Void
    ) async throws {
        guard let instruments = AMQPTracing.automatic.resolved else { return try await body() }
        var context = ServiceContext.topLevel
        instruments.extract(from: message.headers, into: &context)
        try await instruments.tracer.withAnySpan("process \(message.queue)", context: context, ofKind: .consumer) {
            span in
            span.describe(
                message.properties,
                message.body,
                destination: message.queue,
                operation: ("process", "process")
            )
            span.attributes[MessageSpanAttribute.routingKey.rawValue] = message.routingKey
            do {
                try await body()
            } catch {
                span.fail("\(type(of: error))")
                throw error
            }
        }
    }
}
