public import Tracing

/// Whether messages become spans, and whose.
///
/// With a tracer, each message that a pool publishes is a span of kind producer, and each that is handled one of kind consumer, the child of
/// that. A call is a span of kind client, and a request that is answered one of kind server. The trace context travels in the message's
/// headers, `traceparent` and `tracestate` with a tracer that speaks W3C Trace Context, and a handler's own spans, calls and messages are
/// children of its message's.
public enum AMQPTracing: Sendable {
    /// What `InstrumentationSystem` was bootstrapped with when the pool, caller or receiver is made; nothing, at no cost, if it was not.
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
            // An instrument that is no tracer still carries context from one side to the other.
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
    /// That it failed: the kind of error, never its text, which may quote what was sent.
    package func fail(_ type: String) {
        attributes[MessageSpanAttribute.errorType.rawValue] = type
        setStatus(SpanStatus(code: .error, message: type))
    }
}
