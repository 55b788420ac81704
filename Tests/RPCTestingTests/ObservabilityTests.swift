import AMQPPool
import Foundation
import InMemoryTracing
import Logging
import MetricsTestKit
import RPCCaller
import RPCReceiver
import RPCTesting
import Synchronization
import Testing
import Tracing

@testable import RPCWire

@Suite("Spans", .timeLimit(.minutes(5)))
struct TracingTests {
    private func rpc(_ tracer: any Tracer, receiving: (any Tracer)? = nil) -> RPCCaller {
        var configuration = RPCReceiverConfiguration(endpoints: [])
        configuration.tracing = .tracer(receiving ?? tracer)
        let receiver = RPCReceiver(service: "math", configuration: configuration, procedures: math)
        return .inProcess(receivers: [receiver]) {
            $0.tracing = .tracer(tracer)
            $0.timeout = .seconds(30)
        }
    }

    private func attributes(_ span: FinishedInMemorySpan) -> [String: SpanAttribute] {
        var all: [String: SpanAttribute] = [:]
        span.attributes.forEach { all[$0] = $1 }
        return all
    }

    private typealias SpanAttribute = Tracing.SpanAttribute

    @Test("a call is a client's span, and the request a server's span below it, in the same trace")
    func call() async throws {
        let tracer = InMemoryTracer()
        #expect(try await rpc(tracer).call("math", Math.add, [4, 9]) == 13)
        #expect(try await eventually { tracer.finishedSpans.count == 2 })
        let client = try #require(tracer.finishedSpans.first { $0.kind == .client })
        let server = try #require(tracer.finishedSpans.first { $0.kind == .server })
        #expect(client.operationName == "math/add")
        #expect(server.operationName == "math/add")
        #expect(server.traceID == client.traceID)
        #expect(server.parentSpanID == client.spanID)
        #expect(client.status?.code != .error)
        let sent = attributes(client)
        #expect(sent["rpc.system.name"]?.toSpanAttribute() == .string("rabbitmq"))
        #expect(sent["messaging.system"] == .string("rabbitmq"))
        #expect(sent["rpc.method"] == .string("math/add"))
        #expect(sent["messaging.destination.name"] == .string("rpc"))
        #expect(sent["messaging.operation.type"] == .string("send"))
        #expect(sent["messaging.message.body.size"] == .int64(5) || sent["messaging.message.body.size"] == .int32(5))
        #expect(sent["messaging.message.id"] != nil)
        let received = attributes(server)
        #expect(received["messaging.operation.type"] == .string("process"))
        #expect(received["messaging.message.id"] == sent["messaging.message.id"])
        let known = Set(requestAttributes)
        #expect(Set(sent.keys).union(received.keys).isSubset(of: known))
    }

    @Test("a failure marks both spans with its code, and nothing of what was said")
    func failure() async throws {
        let tracer = InMemoryTracer()
        let rpc = rpc(tracer)
        for (procedure, code) in [("fail", "mine"), ("what", "unknown_procedure")] {
            tracer.clearAll()
            _ = await outcome { () throws(RPCError) in try await rpc.call("math", procedure, "secret", as: Int.self) }
            #expect(try await eventually { tracer.finishedSpans.count == 2 })
            for span in tracer.finishedSpans {
                #expect(span.status?.code == .error)
                let attributes = attributes(span)
                #expect(attributes["error.type"] == .string(code))
                #expect(attributes["rpc.response.status_code"] == .string(code))
                #expect(!"\(span)".contains("secret"))
            }
        }
        // A name that the receiver does not have does not become the name of one of its spans.
        let server = try #require(tracer.finishedSpans.first { $0.kind == .server })
        #expect(server.operationName == "math/_OTHER")
        #expect(attributes(server)["rpc.method_original"] == .string("math/what"))
    }

    @Test(
        "a crash has its type on the receiver's span, and internal on the caller's; a call that was not sent its own error"
    )
    func errors() async throws {
        let tracer = InMemoryTracer()
        let rpc = rpc(tracer)
        _ = await outcome { () throws(RPCError) in try await rpc.call("math", "crash", 1, as: Int.self) }
        #expect(try await eventually { tracer.finishedSpans.count == 2 })
        let server = try #require(tracer.finishedSpans.first { $0.kind == .server })
        #expect(attributes(server)["error.type"] == .string(String(reflecting: Broken.self)))
        let client = try #require(tracer.finishedSpans.first { $0.kind == .client })
        #expect(attributes(client)["error.type"] == .string("internal"))
        tracer.clearAll()
        _ = await outcome { () throws(RPCError) in try await rpc.call("nobody", "add", 1, as: Int.self) }
        #expect(tracer.finishedSpans.map { attributes($0)["error.type"] } == [.string("unroutable")])
    }

    @Test("a cast is a producer's span and a consumer's")
    func cast() async throws {
        let tracer = InMemoryTracer()
        try await rpc(tracer).cast("math", Math.add, [1])
        #expect(try await eventually { tracer.finishedSpans.count == 2 })
        #expect(Set(tracer.finishedSpans.map(\.operationName)) == ["send math/add", "process math/add"])
        #expect(tracer.finishedSpans.contains { $0.kind == .producer })
        #expect(tracer.finishedSpans.contains { $0.kind == .consumer })
    }

    @Test("what a handler does is part of its request's span, and a nested call of the same trace")
    func nested() async throws {
        let tracer = InMemoryTracer()
        let inner = rpc(tracer)
        var configuration = RPCReceiverConfiguration(endpoints: [])
        configuration.tracing = .tracer(tracer)
        let front = RPCReceiver(
            service: "front",
            configuration: configuration,
            procedures: RPCHandlers {
                RPCHandler("ask") { (n: Int, _) in try await inner.call("math", Math.add, [n, 1]) }
            }
        )
        let outer = RPCCaller.inProcess(receivers: [front]) { $0.tracing = .tracer(tracer) }
        #expect(try await outer.call("front", "ask", 1, timeout: .seconds(30)) == 2)
        #expect(try await eventually { tracer.finishedSpans.count == 4 })
        #expect(Set(tracer.finishedSpans.map(\.traceID)).count == 1)
        #expect(tracer.finishedSpans.filter { $0.parentSpanID == nil }.map(\.operationName) == ["front/ask"])
    }

    @Test("W3C trace context goes through the headers traceparent and tracestate, as the user's tracer writes them")
    func w3c() async throws {
        let tracer = W3C()
        let headers = Mutex<FieldTable?>(nil)
        var configuration = RPCReceiverConfiguration(endpoints: [])
        configuration.tracing = .tracer(tracer)
        let receiver = RPCReceiver(
            service: "math",
            configuration: configuration,
            procedures: RPCHandlers {
                RPCHandler("ask") { (_: Int, context) -> String? in
                    headers.withLock { $0 = context.headers }
                    return ServiceContext.current?[W3C.Key.self]
                }
            }
        )
        let rpc = RPCCaller.inProcess(receivers: [receiver]) { $0.tracing = .tracer(tracer) }
        var context = ServiceContext.topLevel
        context[W3C.Key.self] = W3C.parent
        let got: String? = try await ServiceContext.withValue(context) {
            try await rpc.call("math", "ask", 1, timeout: .seconds(30))
        }
        #expect(got == W3C.parent)
        #expect(headers.withLock { $0?["traceparent"] } == .string(W3C.parent))
        #expect(headers.withLock { $0?["tracestate"] } == "vendor=1")
    }

    @Test("nothing is traced, and nothing sent, where tracing is disabled or nobody bootstrapped it")
    func disabled() async throws {
        #expect(AMQPTracing.disabled.resolved == nil)
        #expect(AMQPTracing.automatic.resolved == nil)
        let scoped = InMemoryTracer()
        withTracer(scoped) { #expect(AMQPTracing.automatic.resolved != nil) }
    }

    /// Carries one trace context, and makes no spans.
    private struct W3C: Tracer {
        enum Key: ServiceContextKey { typealias Value = String }

        static let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

        func extract<Carrier, Extract: Extractor>(
            _ carrier: Carrier,
            into context: inout ServiceContext,
            using extractor: Extract
        ) where Extract.Carrier == Carrier {
            guard extractor.extract(key: "tracestate", from: carrier) == "vendor=1" else { return }
            context[Key.self] = extractor.extract(key: "traceparent", from: carrier)
        }

        func inject<Carrier, Inject: Injector>(
            _ context: ServiceContext,
            into carrier: inout Carrier,
            using injector: Inject
        ) where Inject.Carrier == Carrier {
            guard let parent = context[Key.self] else { return }
            injector.inject(parent, forKey: "traceparent", into: &carrier)
            injector.inject("vendor=1", forKey: "tracestate", into: &carrier)
        }

        func startSpan<Instant: TracerInstant>(
            _ operationName: String,
            context: @autoclosure () -> ServiceContext,
            ofKind kind: SpanKind,
            at instant: @autoclosure () -> Instant,
            function: String,
            file fileID: String,
            line: UInt
        ) -> NoOpTracer.Span {
            NoOpTracer.Span(context: context())
        }

        func forceFlush() {}
    }
}

@Suite("Metrics", .timeLimit(.minutes(5)))
struct MetricsTests {
    private let metrics = TestMetrics()

    private func rpc(_ change: (inout RPCReceiverConfiguration) -> Void = { _ in }) -> RPCCaller {
        var configuration = RPCReceiverConfiguration(endpoints: [])
        configuration.metricsFactory = metrics
        change(&configuration)
        let receiver = RPCReceiver(service: "math", configuration: configuration, procedures: math)
        return .inProcess(receivers: [receiver], service: "shop") {
            $0.metricsFactory = metrics
            $0.timeout = .seconds(30)
        }
    }

    private func timings(_ label: String, _ dimensions: [(String, String)]) throws -> Int {
        try metrics.expectTimer(label, dimensions).values.count
    }

    @Test("each call and each request has its duration, by who, what and how it ended")
    func durations() async throws {
        let rpc = rpc()
        for _ in 0..<3 { _ = try await rpc.call("math", Math.add, [1]) }
        for procedure in ["fail", "crash", "what"] {
            _ = await outcome { () throws(RPCError) in try await rpc.call("math", procedure, 1, as: Int.self) }
        }
        _ = await outcome { () throws(RPCError) in try await rpc.call("nobody", "add", 1, as: Int.self) }
        let client = "rpc.client.call.duration"
        let called = { (destination: String, procedure: String, outcome: String) in
            [("service", "shop"), ("destination", destination), ("procedure", procedure), ("outcome", outcome)]
        }
        #expect(try timings(client, called("math", "add", "ok")) == 3)
        #expect(try timings(client, called("math", "fail", "remote")) == 1)
        #expect(try timings(client, called("nobody", "add", "unroutable")) == 1)
        let server = "rpc.server.call.duration"
        let ran = { (procedure: String, outcome: String) in
            [("service", "math"), ("procedure", procedure), ("outcome", outcome)]
        }
        #expect(try timings(server, ran("add", "ok")) == 3)
        #expect(try timings(server, ran("fail", "undecodable_request")) == 1)
        #expect(try timings(server, ran("crash", "internal")) == 1)
        #expect(try timings(server, ran("_OTHER", "unknown_procedure")) == 1)
    }

    @Test("what is in flight goes up and down again")
    func inFlight() async throws {
        let rpc = rpc()
        let task = Task { await outcome { () throws(RPCError) in try await rpc.call("math", "wait", 1, as: Int.self) } }
        let client = [("service", "shop")]
        let server = [("service", "math")]
        #expect(try await eventually { (try? metrics.expectMeter("rpc.server.in_flight", server).lastValue) == 1 })
        #expect(try metrics.expectMeter("rpc.client.in_flight", client).lastValue == 1)
        task.cancel()
        _ = await task.value
        #expect(try metrics.expectMeter("rpc.client.in_flight", client).lastValue == 0)
    }

    @Test("redeliveries and drops are counted")
    func drops() async throws {
        let rpc = rpc {
            $0.onFailure = .requeue
            $0.deliveryLimit = 3
        }
        let result = await outcome { () throws(RPCError) in try await rpc.call("math", "crash", 1, as: Int.self) }
        guard case .failure(.remote(let failure)) = result, failure.code == .poison else {
            Issue.record("\(result)")
            return
        }
        let service = [("service", "math")]
        #expect(try metrics.expectCounter("rpc.server.redeliveries", service).totalValue == 2)
        #expect(try metrics.expectCounter("rpc.server.dropped", service + [("reason", "poison")]).totalValue == 1)
        _ = await outcome { () throws(RPCError) in
            try await rpc.call("math", "wait", 1, timeout: .milliseconds(20), as: Int.self)
        }
        #expect(
            try await eventually {
                (try? metrics.expectCounter("rpc.server.dropped", service + [("reason", "expired")]).totalValue) == 1
            }
        )
    }

    @Test("names from outside cannot make series without end")
    func bounded() {
        let series = MetricSeries(.serverCallDuration, service: "math", factory: metrics)
        for n in 0..<(MetricSeries.limit + 100) {
            series.record(.seconds(1), MetricSeries.Key(procedure: "p\(n)", outcome: "ok"))
        }
        let timers = metrics.timers.filter { $0.label == "rpc.server.call.duration" }
        #expect(timers.count == MetricSeries.limit + 1)
        let other = timers.first { $0.dimensions.contains { $0 == ("procedure", "_OTHER") } }
        #expect(other?.values.count == 100)
    }

    @Test("only the names that the document lists are used")
    func names() async throws {
        let rpc = rpc()
        _ = try await rpc.call("math", Math.add, [1])
        // Those of connections come with callers and receivers.
        let known = Set(MetricName.allCases.map(\.rawValue) + AMQPMetricName.allCases.map(\.rawValue))
        let dimensions = Set(
            MetricDimension.allCases.map(\.rawValue) + AMQPMetricDimension.allCases.map(\.rawValue)
        )
        #expect(!metrics.timers.isEmpty)
        for timer in metrics.timers {
            #expect(known.contains(timer.label))
            #expect(timer.dimensions.allSatisfy { dimensions.contains($0.0) })
        }
        #expect(metrics.counters.allSatisfy { known.contains($0.label) })
        #expect(metrics.meters.allSatisfy { known.contains($0.label) })
    }
}

@Suite("Logs", .timeLimit(.minutes(5)))
struct LogTests {
    @Test("a failed call is logged on both sides under the same message id, without its payload")
    func failures() async throws {
        let (calling, answering) = (LogCapture(), LogCapture())
        let receiver = RPCReceiver(
            service: "math",
            configuration: RPCReceiverConfiguration(endpoints: []),
            logger: answering.logger,
            procedures: math
        )
        let rpc = RPCCaller.inProcess(receivers: [receiver], logger: calling.logger) { $0.timeout = .seconds(30) }
        for procedure in ["crash", "add", "what", "upper"] {
            _ = await outcome { () throws(RPCError) in
                try await rpc.call("math", procedure, ["payload": "secret payload"], as: Int.self)
            }
        }
        try await rpc.cast("math", "add", "secret payload")
        #expect(try await eventually { answering.text.contains("a cast failed") })
        let keys = Set(LogKey.allCases.map(\.rawValue))
        for line in calling.all + answering.all { #expect(Set(line.metadata.keys).isSubset(of: keys), "\(line)") }
        let ids = { (capture: LogCapture) in
            Set(capture.all.compactMap { $0.metadata["rpc.message_id"].map { "\($0)" } })
        }
        #expect(ids(calling).count == 4)
        #expect(ids(calling).isSubset(of: ids(answering)))
        #expect(calling.all.allSatisfy { $0.metadata["rpc.destination"] == "math" })
        #expect(!(calling.text + answering.text).contains("secret payload"))
    }

    @Test("a handler's logger carries the procedure and the message id")
    func handler() async throws {
        let capture = LogCapture()
        let receiver = RPCReceiver(
            service: "math",
            configuration: RPCReceiverConfiguration(endpoints: []),
            logger: capture.logger,
            procedures: RPCHandlers {
                RPCHandler("log") { (n: Int, context) -> String? in
                    context.logger.info("here")
                    return context.messageID
                }
            }
        )
        let id: String? = try await RPCCaller.inProcess(receivers: [receiver]).call(
            "math",
            "log",
            1,
            timeout: .seconds(30)
        )
        let line = try #require(capture.all.first { $0.message == "here" })
        #expect(line.metadata["rpc.procedure"] == "log")
        #expect(line.metadata["rpc.message_id"].map { "\($0)" } == id)
    }

    @Test("a call that succeeds logs nothing")
    func success() async throws {
        let capture = LogCapture()
        let rpc = RPCCaller.inProcess(["math": math], logger: capture.logger)
        _ = try await rpc.call("math", Math.add, [1], timeout: .seconds(30))
        #expect(capture.all.isEmpty)
    }
}

@Suite("docs/observability.md")
struct ObservabilityTableTests {
    @Test("lists every metric, dimension, span attribute and log key, and no other")
    func tables() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let page = try String(contentsOf: root.appending(path: "docs/observability.md"), encoding: .utf8)
        let sections = page.components(separatedBy: "\n## ")
        for (title, names) in [
            ("Metrics", MetricName.allCases.map(\.rawValue)),
            ("Dimensions", MetricDimension.allCases.map(\.rawValue)),
            ("Spans", requestAttributes), ("Logs", LogKey.allCases.map(\.rawValue)),
        ] {
            let section = try #require(sections.first { $0.hasPrefix(title + "\n") }, "\(title)")
            let listed = section.matches(of: /\n\| `([^`]+)` \|/).map { String($0.1) }
            #expect(listed == names, "\(title)")
        }
    }
}

/// The attributes of spans of requests, as the page lists them.
private let requestAttributes =
    RPCSpanAttribute.allCases.map(\.rawValue) + RPCSpanAttribute.ofMessage.map(\.rawValue)
