public import Tracing

/// Whether messages are traced, and by which tracer.
///
/// With a tracer, each published message is a span of kind producer, and each handled message one of kind consumer, its child. A call is a
/// span of kind client, and an answered request one of kind server. The trace context is in the message's headers: `traceparent` and
/// `tracestate` with a tracer for W3C Trace Context. A handler's own spans, calls and messages are children of its message's span.
public enum AMQPTracing: Sendable {
    /// The tracer that `InstrumentationSystem` was bootstrapped with when the pool, caller or receiver is created; none, at no cost, if it
    /// was not.
    case automatic
    /// No spans, and no trace context in headers.
    case disabled
    /// This tracer, regardless of `InstrumentationSystem`.
    case tracer(any Tracer)

    /// The tracer and instrument to use, `nil` for none.
    package var resolved: Instruments? {
        switch self {
        case .disabled: return nil
        case .tracer(let tracer): return Instruments(tracer: tracer, instrument: tracer)
        case .automatic:
            let instrument = InstrumentationSystem.instrument
            // An instrument that is not a tracer still propagates context.
            if instrument is NoOpInstrument || instrument is NoOpTracer { return nil }
            return Instruments(tracer: InstrumentationSystem.tracer, instrument: instrument)
        }
    }
}

/// A tracer, and the instrument that propagates context.
package struct Instruments: Sendable {
    package let tracer: any Tracer
    let instrument: any Instrument

    /// Injects the context into the headers of a message.
    package func inject(_ context: ServiceContext, into headers: inout FieldTable) {
        instrument.inject(context, into: &headers, using: HeaderInjector())
    }

    /// Extracts the context from the headers of a message.
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
    /// Records the type of an error, never its text, which may quote what was sent.
    package func fail(_ type: String) {
        attributes[MessageSpanAttribute.errorType.rawValue] = type
        setStatus(SpanStatus(code: .error, message: type))
    }
}
