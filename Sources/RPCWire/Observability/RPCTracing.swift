package import AMQPPool
internal import NIOCore
public import Tracing

/// Whether calls and requests become spans, and whose.
///
/// With a tracer, each call is a span of kind client and each request answered one of kind server; casts are producer and consumer.
/// The trace context travels in the message's headers, `traceparent` and `tracestate` with a tracer that speaks W3C Trace Context,
/// and a handler's own spans and calls are children of its request's.
public enum RPCTracing: Sendable {
    /// What `InstrumentationSystem` was bootstrapped with when the caller or receiver is made; nothing, at no cost, if it was not.
    case automatic
    /// No spans, and no context in headers.
    case disabled
    /// This tracer, whatever `InstrumentationSystem` says.
    case tracer(any Tracer)

    /// What to trace with, if anything.
    package var resolved: Instruments? {
        switch self {
        case .disabled: return nil
        case .tracer(let tracer): return Instruments(tracer: tracer, instrument: tracer)
        case .automatic:
            let instrument = InstrumentationSystem.instrument
            // An instrument that is no tracer still carries context from caller to receiver.
            if instrument is NoOpInstrument || instrument is NoOpTracer { return nil }
            return Instruments(tracer: InstrumentationSystem.tracer, instrument: instrument)
        }
    }
}

/// A tracer, and the instrument that carries context across.
package struct Instruments: Sendable {
    package let tracer: any Tracer
    package let instrument: any Instrument

    /// Writes the context into the headers of a message.
    package func inject(_ context: ServiceContext, into headers: inout FieldTable) {
        instrument.inject(context, into: &headers, using: HeaderInjector())
    }

    /// Adds to the context what the headers of a message say.
    package func extract(from headers: FieldTable, into context: inout ServiceContext) {
        instrument.extract(headers, into: &context, using: HeaderExtractor())
    }
}

private struct HeaderInjector: Injector {
    func inject(_ value: String, forKey key: String, into carrier: inout FieldTable) {
        carrier[key] = .string(value)
    }
}

private struct HeaderExtractor: Extractor {
    func extract(key: String, from carrier: FieldTable) -> String? {
        guard case .string(let value) = carrier[key] else { return nil }
        return value
    }
}

extension Span {
    /// What every span of a request says.
    package func describe(
        _ request: RPCRequest,
        method: String,
        operation: (name: String, type: String),
        exchange: String?
    ) {
        attributes[SpanAttribute.system.rawValue] = "rabbitmq"
        attributes[SpanAttribute.messagingSystem.rawValue] = "rabbitmq"
        attributes[SpanAttribute.method.rawValue] = method
        attributes[SpanAttribute.operationName.rawValue] = operation.name
        attributes[SpanAttribute.operationType.rawValue] = operation.type
        if let exchange { attributes[SpanAttribute.destinationName.rawValue] = exchange }
        if let id = request.messageID { attributes[SpanAttribute.messageID.rawValue] = id }
        attributes[SpanAttribute.bodySize.rawValue] = request.body.readableBytes
    }

    /// That it failed: the kind of error, never its text, which may quote what was sent.
    package func fail(_ type: String) {
        attributes[SpanAttribute.errorType.rawValue] = type
        setStatus(SpanStatus(code: .error, message: type))
    }
}
