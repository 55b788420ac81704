import AMQPPool
import RPCCaller
import RPCReceiver
import RPCWire
import Supervision

/// RPC, with a broker at `url`: a call and a cast from a caller to a receiver.
struct RPCSettings {
    let url: String

    var all: [Setting] { callers + calls + receivers + wire }

    private var callers: [Setting] {
        let of = SettingsOf(
            "RPCCallerConfiguration",
            { [url] in RPCCallerConfiguration(endpoints: [try Endpoint(url: url)]) }
        ) {
            try await call($0)
        }
        @Sendable
        func whenFull(_ value: RPCCallerConfiguration.WhenFull) throws -> RPCCallerConfiguration {
            var configuration = RPCCallerConfiguration(endpoints: [try Endpoint(url: url)])
            configuration.whenFull = value
            return configuration
        }
        return [
            of("timeout", \.timeout, deadline: true),
            of("maximumCallsInFlight", \.maximumCallsInFlight, called: "in flight"),
            of("drainTimeout", \.drainTimeout), of("replyPrefetch", \.replyPrefetch),
            of("replyQueueExpiry", \.replyQueueExpiry, called: "x-expires"),
            of("intensity", \.intensity, called: "period"),
            Setting("RPCCallerConfiguration.WhenFull.wait") { try await call(whenFull(.wait(limit: $0))) },
        ]
    }

    private var calls: [Setting] {
        func timeout(
            _ function: String,
            _ use: @escaping @Sendable (RPCCaller, Duration) async throws -> Void
        ) -> Setting {
            Setting("RPCCaller.\(function)#timeout", deadline: true) { [url] value in
                try await withCaller(RPCCallerConfiguration(endpoints: [try Endpoint(url: url)])) { rpc in
                    try await use(rpc, value)
                }
            }
        }
        @Sendable
        func retry(_ retry: RPCRetry, _ url: String) async throws {
            try await withCaller(RPCCallerConfiguration(endpoints: [try Endpoint(url: url)])) { rpc in
                _ = try await rpc.call("math", "echo", 1, retry: retry, as: Int.self)
                // Nobody serves it, so that it is tried again.
                do {
                    _ = try await rpc.call("nobody", "echo", 1, timeout: .milliseconds(200), retry: retry, as: Int.self)
                } catch let error as RPCError {
                    switch error {
                    case .unroutable, .timeout: break
                    default: throw error
                    }
                }
            }
        }
        return [
            timeout("waitUntilReady") { try await $0.waitUntilReady(timeout: $1) },
            timeout("call") {
                _ = try await $0.call("math", "echo", 1, timeout: $1, as: Int.self)
                _ = try await $0.call("math", echo, 1, timeout: $1)
            },
            timeout("describe") { _ = try await $0.describe("math", timeout: $1) },
            timeout("cast") {
                try await $0.cast("math", "echo", 1, timeout: $1)
                try await $0.cast("math", echo, 1, timeout: $1)
            },
            timeout("callQueue") {
                _ = try await $0.callQueue("math.rpcs", "echo", 1, timeout: $1, as: Int.self)
                _ = try await $0.callQueue("math.rpcs", echo, 1, timeout: $1)
            },
            Setting("RPCRetry.idempotent", called: "attempts") { [url] value in
                try await retry(.idempotent(attempts: value), url)
            },
            Setting("RPCRetry.idempotent", called: "backoff", "minimum", "maximum", "factor", "jitter") { [url] value in
                try await retry(.idempotent(attempts: 3, backoff: value), url)
            },
        ]
    }

    private var receivers: [Setting] {
        let url = url
        let of = SettingsOf(
            "RPCReceiverConfiguration",
            { RPCReceiverConfiguration(endpoints: [try Endpoint(url: url)]) }
        ) {
            try await serve($0, url)
        }
        let deduplication = SettingsOf("RPCDeduplication", { RPCDeduplication() }) {
            try await serve(deduplication: $0, url)
        }
        @Sendable
        func whenBusy(_ value: RPCReceiverConfiguration.WhenBusy) throws -> RPCReceiverConfiguration {
            var configuration = RPCReceiverConfiguration(endpoints: [try Endpoint(url: url)])
            configuration.whenBusy = value
            return configuration
        }
        return [
            of("concurrency", \.concurrency), of("handlerTimeLimit", \.handlerTimeLimit, deadline: true),
            Setting("RPCReceiverConfiguration.drainTimeout") { (value: Duration) in
                var configuration = RPCReceiverConfiguration(endpoints: [try Endpoint(url: url)])
                configuration.drainTimeout = value
                try await serve(configuration, url)
                // A handler runs on for a moment when it is stopped.
                try await stopWhileServing(configuration, url)
            },
            of("deliveryLimit", \.deliveryLimit),
            of("intensity", \.intensity, called: "period"), of("topologyCheckInterval", \.topologyCheckInterval),
            Setting("RPCReceiverConfiguration.WhenBusy.shed", called: "waiting") {
                try await serve(whenBusy(.shed(waiting: $0)), url)
            },
            Setting("RPCReceiver.init#concurrency") { value in
                let receiver = RPCReceiver(
                    service: "math",
                    endpoints: [try Endpoint(url: url)],
                    concurrency: value,
                    logger: quiet,
                    procedures: { RPCHandler(echo) { number, _ in number } }
                )
                try await serve(receiver, url)
            },
            Setting("RPCReceiver.waitUntilReady#timeout", deadline: true) { value in
                let receiver = try receiver(RPCReceiverConfiguration(endpoints: [try Endpoint(url: url)]))
                try await receiver.start()
                do {
                    try await receiver.waitUntilReady(timeout: value)
                } catch {
                    await receiver.stop()
                    throw error
                }
                await receiver.stop()
            },
            deduplication("maximumEntries", \.maximumEntries), deduplication("maximumBytes", \.maximumBytes),
            deduplication("maximumAge", \.maximumAge),
            Setting("RPCDeduplication.init#maximumEntries") {
                try await serve(deduplication: RPCDeduplication(maximumEntries: $0), url)
            },
            Setting("RPCDeduplication.init#maximumBytes") {
                try await serve(deduplication: RPCDeduplication(maximumBytes: $0), url)
            },
            Setting("RPCDeduplication.init#maximumAge") {
                try await serve(deduplication: RPCDeduplication(maximumAge: $0), url)
            },
        ]
    }

    private var wire: [Setting] {
        func value<Value: HasExtremes>(_ name: String, _ make: @escaping @Sendable (Value) -> JSONValue) -> Setting {
            // What JSON cannot say is refused by its encoder.
            Setting("JSONValue.\(name)", called: "encod") { [url] number in
                try await withCaller(RPCCallerConfiguration(endpoints: [try Endpoint(url: url)])) { rpc in
                    _ = try await rpc.call("math", "json", make(number), as: JSONValue.self)
                }
            }
        }
        return [
            value("integer") { .integer($0) }, value("number") { .number($0) },
            value("init#integerLiteral") { JSONValue(integerLiteral: $0) },
            value("init#floatLiteral") { JSONValue(floatLiteral: $0) },
        ]
    }
}

private let echo = RPCProcedure<Int, Int>("echo")

private func receiver(_ configuration: RPCReceiverConfiguration) throws -> RPCReceiver {
    RPCReceiver(
        service: "math",
        configuration: configuration,
        logger: quiet,
        procedures: RPCHandlers {
            RPCHandler(echo) { number, _ in number }
            RPCHandler(RPCProcedure<JSONValue, JSONValue>("json")) { value, _ in value }
        }
    )
}

/// Runs a receiver with default settings meanwhile.
private func withCaller(
    _ configuration: RPCCallerConfiguration,
    _ body: (RPCCaller) async throws -> Void
) async throws {
    let receiver = try receiver(RPCReceiverConfiguration(endpoints: configuration.pool.endpoints))
    try await receiver.start()
    do {
        try await receiver.waitUntilReady()
        try await withCaller(alone: configuration, body)
    } catch {
        await receiver.stop()
        throw error
    }
    await receiver.stop()
}

private func withCaller(
    alone configuration: RPCCallerConfiguration,
    _ body: (RPCCaller) async throws -> Void
) async throws {
    let rpc = RPCCaller(service: "test", configuration: configuration, logger: quiet)
    try await rpc.start()
    do {
        try await body(rpc)
    } catch {
        await rpc.stop()
        throw error
    }
    await rpc.stop()
}

private func call(_ configuration: RPCCallerConfiguration) async throws {
    try await withCaller(configuration) { try await callAndCast($0) }
}

private func callAndCast(_ rpc: RPCCaller) async throws {
    let answer = try await rpc.call("math", "echo", 7, as: Int.self)
    guard answer == 7 else { throw Unexpected("the answer is \(answer)") }
    try await rpc.cast("math", "echo", 7)
}

private func serve(_ configuration: RPCReceiverConfiguration, _ url: String) async throws {
    try await serve(try receiver(configuration), url)
}

private func serve(deduplication: RPCDeduplication, _ url: String) async throws {
    var configuration = RPCReceiverConfiguration(endpoints: [try Endpoint(url: url)])
    configuration.deduplication = deduplication
    try await serve(configuration, url)
}

private func stopWhileServing(_ configuration: RPCReceiverConfiguration, _ url: String) async throws {
    let (begun, beginning) = AsyncStream.makeStream(of: Void.self)
    let receiver = RPCReceiver(
        service: "slow",
        configuration: configuration,
        logger: quiet,
        procedures: RPCHandlers {
            RPCHandler(echo) { number, _ in
                beginning.yield()
                try await Task.sleep(for: .milliseconds(50))
                return number
            }
        }
    )
    try await receiver.start()
    try await receiver.waitUntilReady()
    try await withCaller(alone: RPCCallerConfiguration(endpoints: configuration.pool.endpoints)) { rpc in
        try await rpc.cast("slow", "echo", 1)
        for await _ in begun { break }
        await receiver.stop()
    }
}

private func serve(_ receiver: RPCReceiver, _ url: String) async throws {
    try await receiver.start()
    do {
        try await receiver.waitUntilReady()
        try await withCaller(alone: RPCCallerConfiguration(endpoints: [try Endpoint(url: url)])) { rpc in
            try await callAndCast(rpc)
        }
    } catch {
        await receiver.stop()
        throw error
    }
    await receiver.stop()
}
