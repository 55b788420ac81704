import AMQPPool
import NIOCore
import Supervision

/// AMQPPool, with a broker at `url`: connects, publishes, consumes and closes.
struct AMQPSettings {
    let url: String

    var all: [Setting] { connections + channels + pools + consumers + topology + values }

    // MARK: Connections and channels

    private var connections: [Setting] {
        let of = SettingsOf("ConnectionConfiguration", { ConnectionConfiguration() }) { [url] configuration in
            let connection = try await AMQPConnection.open(try Endpoint(url: url), configuration: configuration)
            do {
                let channel = try await connection.openChannel()
                try await channel.selectConfirms()
                let queue = try await channel.declareQueue("", exclusive: true).name
                try await channel.publish(ByteBuffer(string: "hello"), routingKey: queue)
                _ = try await channel.get(queue: queue)
            } catch {
                await connection.close()
                throw error
            }
            await connection.close()
        }
        return [
            of("connectTimeout", \.connectTimeout, deadline: true), of("heartbeat", \.heartbeat),
            of("maximumFrameSize", \.maximumFrameSize), of("maximumChannels", \.maximumChannels, called: "channels"),
            of("operationTimeout", \.operationTimeout, deadline: true), of("closeTimeout", \.closeTimeout),
            of("maximumMessageSize", \.maximumMessageSize, called: "limit"),
            of("maximumIncomingMessageSize", \.maximumIncomingMessageSize, called: "limit"),
            of("maximumUnconfirmed", \.maximumUnconfirmed),
            of("maximumOutboxEntries", \.maximumOutboxEntries, called: "waiting to be written"),
            of("maximumOutboxBytes", \.maximumOutboxBytes),
            of("maximumWaitingOperations", \.maximumWaitingOperations),
        ]
    }

    private var channels: [Setting] {
        func timeout(
            _ function: String,
            _ use: @escaping @Sendable (AMQPChannel, Duration) async throws -> Void
        ) -> Setting {
            Setting("AMQPChannel.\(function)#timeout", deadline: true) { [url] value in
                try await withChannel(url) { try await use($0, value) }
            }
        }
        return [
            timeout("consume") {
                _ = try await $0.consume(queue: "q", timeout: $1) { _ in }
                _ = try await $0.consume(queue: "q", arguments: ConsumerArguments(), timeout: $1) { _ in }
            },
            timeout("cancel") {
                let tag = try await $0.consume(queue: "q") { _ in }
                try await $0.cancel(tag, timeout: $1)
            },
            timeout("get") { _ = try await $0.get(queue: "q", timeout: $1) },
            timeout("setPrefetch") { try await $0.setPrefetch(1, timeout: $1) },
            timeout("recover") { try await $0.recover(timeout: $1) },
            timeout("publish") { try await $0.publish(ByteBuffer(), routingKey: "q", timeout: $1) },
            timeout("declareExchange") {
                try await $0.declareExchange("x", type: .fanout, durable: true, timeout: $1)
                try await $0.declareExchange("x", type: .fanout, arguments: ExchangeArguments(), timeout: $1)
            },
            timeout("deleteExchange") { try await $0.deleteExchange("other", timeout: $1) },
            timeout("bindExchange") {
                try await $0.bindExchange("x", to: "amq.headers", routingKey: "", timeout: $1)
                try await $0.bindExchange("x", to: "amq.headers", matching: match, timeout: $1)
            },
            timeout("unbindExchange") {
                try await $0.unbindExchange("x", from: "amq.fanout", routingKey: "", timeout: $1)
            },
            timeout("declareQueue") {
                try await $0.declareQueue("q", durable: true, timeout: $1)
                try await $0.declareQueue("q", arguments: QueueArguments(), timeout: $1)
            },
            timeout("deleteQueue") { _ = try await $0.deleteQueue("other", timeout: $1) },
            timeout("purgeQueue") { _ = try await $0.purgeQueue("q", timeout: $1) },
            timeout("bindQueue") {
                try await $0.bindQueue("q", to: "amq.headers", routingKey: "", timeout: $1)
                try await $0.bindQueue("q", to: "amq.headers", matching: match, timeout: $1)
            },
            timeout("unbindQueue") {
                try await $0.unbindQueue("q", from: "amq.headers", routingKey: "", timeout: $1)
                try await $0.unbindQueue("q", from: "amq.headers", matching: match, timeout: $1)
            },
            timeout("selectConfirms") { try await $0.selectConfirms(timeout: $1) },
            timeout("close") { await $0.close(timeout: $1) },
            Setting("AMQPChannel.setPrefetch#count") { [url] value in
                try await withChannel(url) { try await $0.setPrefetch(value) }
            },
            // The broker closes the channel for a tag that it has not given, and says so.
            Setting("AMQPChannel.acknowledge#deliveryTag", UInt64.self, called: "delivery") { [url] value in
                try await withChannel(url) { channel in
                    channel.acknowledge(value)
                    channel.acknowledge(value, multiple: true)
                    _ = try await channel.get(queue: "q")
                }
            },
            Setting("AMQPChannel.reject#deliveryTag", UInt64.self, called: "delivery") { [url] value in
                try await withChannel(url) { channel in
                    channel.reject(value, requeue: true)
                    channel.reject(value, requeue: false)
                    _ = try await channel.get(queue: "q")
                }
            },
            Setting("AMQPConnection.openChannel#timeout", deadline: true) { [url] value in
                try await withConnection(url) { await (try $0.openChannel(timeout: value)).close() }
            },
            Setting("AMQPConnection.close#timeout", deadline: true) { [url] value in
                try await withConnection(url) { await $0.close(timeout: value) }
            },
            Setting("AMQPConnection.updateSecret#timeout", deadline: true, called: "update-secret", "not supported") {
                [url] value in
                try await withConnection(url) { try await $0.updateSecret("guest", reason: "test", timeout: value) }
            },
        ]
    }

    // MARK: Pools and consumers

    private var pools: [Setting] {
        let of = SettingsOf(
            "PoolConfiguration",
            { [url] in PoolConfiguration(endpoints: [try Endpoint(url: url)]) },
            use: { try await use(AMQPPool(configuration: $0)) }
        )
        @Sendable
        func pool() throws -> AMQPPool { AMQPPool(endpoints: [try Endpoint(url: url)]) }
        func timeout(
            _ function: String,
            _ use: @escaping @Sendable (AMQPPool, Duration) async throws -> Void
        ) -> Setting {
            Setting("AMQPPool.\(function)#timeout", deadline: true) { [url] value in
                try await whileRunning(AMQPPool(endpoints: [try Endpoint(url: url)])) { try await use($0, value) }
            }
        }
        return [
            of("connections", \.connections), of("consumerConnections", \.consumerConnections),
            of("channelsPerConnection", \.channelsPerConnection),
            of("maximumDedicatedChannels", \.maximumDedicatedChannels, called: "dedicated"),
            of("channelShutdown", \.channelShutdown), of("killTimeout", \.killTimeout),
            Setting("PoolConfiguration.backoff", called: "minimum", "maximum", "factor", "jitter") {
                [url] (value: Backoff) in
                var configuration = PoolConfiguration(endpoints: [try Endpoint(url: url)])
                configuration.backoff = value
                try await use(AMQPPool(configuration: configuration))
                // Where nobody listens, so that there is a pause.
                configuration.endpoints = [Endpoint(host: "127.0.0.1", port: 1)]
                let pool = AMQPPool(configuration: configuration)
                try await whileRunning(pool) { _ in try await Task.sleep(for: .milliseconds(50)) }
            },
            Setting("AMQPPool.init#connections") { [url] value in
                try await use(AMQPPool(endpoints: [try Endpoint(url: url)], connections: value))
            },
            Setting("Credentials.validFor") { [url] (value: Duration) in
                var credentials = Credentials(username: "guest", password: "guest")
                credentials.validFor = value
                try await renew(credentials, url)
            },
            Setting("Credentials.init#validFor") { [url] (value: Duration) in
                try await renew(Credentials(username: "guest", password: "guest", validFor: value), url)
            },
            Setting("AMQPPool.init#channelsPerConnection") { [url] value in
                try await use(AMQPPool(endpoints: [try Endpoint(url: url)], channelsPerConnection: value))
            },
            timeout("waitUntilReady") { try await $0.waitUntilReady(timeout: $1) },
            timeout("publish") { try await $0.publish(ByteBuffer(), routingKey: "none", timeout: $1) },
            timeout("withChannel") { pool, value in
                try await pool.waitUntilReady()
                _ = try await pool.withChannel(timeout: value) { $0.number }
            },
            timeout("withDedicatedChannel") { pool, value in
                _ = try await pool.withDedicatedChannel(timeout: value) { $0.number }
            },
            timeout("updateSecret") { pool, value in
                try await pool.waitUntilReady()
                try await pool.updateSecret("guest", reason: "test", timeout: value)
            },
        ]
    }

    private var consumers: [Setting] {
        let url = url
        let of = SettingsOf("ConsumerConfiguration", { ConsumerConfiguration() }) {
            try await consume(url, $0, fails: false)
        }
        let failing = SettingsOf("ConsumerConfiguration", { ConsumerConfiguration() }) {
            try await consume(url, $0, fails: true)
        }
        let interrupted = SettingsOf("ConsumerConfiguration", { ConsumerConfiguration() }) {
            try await consume(url, $0, fails: false)
            // Its queue is not there, and asked for again and again.
            try await whileConsuming(url, $0, declares: false)
        }
        @Sendable
        func policy(_ policy: DeliveryFailurePolicy) -> ConsumerConfiguration {
            var configuration = ConsumerConfiguration()
            configuration.retryBackoff = Backoff(minimum: .milliseconds(1), maximum: .milliseconds(1))
            configuration.onFailure = policy
            return configuration
        }
        @Sendable
        func arguments(_ arguments: ConsumerArguments) -> ConsumerConfiguration {
            var configuration = ConsumerConfiguration()
            configuration.arguments = arguments
            return configuration
        }
        func offset<Value: HasExtremes>(
            _ name: String,
            _ make: @escaping @Sendable (Value) -> ConsumerArguments.StreamOffset
        ) -> Setting {
            // On a stream, and so with a prefetch.
            Setting("ConsumerArguments.StreamOffset.\(name)", called: "x-stream-offset") { value in
                try await withChannel(url) { channel in
                    try await channel.declareQueue("stream", arguments: QueueArguments(type: .stream))
                    try await channel.setPrefetch(1)
                    let arguments = ConsumerArguments(streamOffset: make(value))
                    _ = try await channel.consume(queue: "stream", arguments: arguments) { _ in }
                }
            }
        }
        return [
            Setting("ConsumerConfiguration.handlerTimeLimit") { (value: Duration) in
                var configuration = ConsumerConfiguration()
                configuration.handlerTimeLimit = value
                configuration.onFailure = .ack
                try await whileConsuming(url, configuration)
                // Through a handler that runs until it is cancelled, or its consumer stopped.
                configuration.drainTimeout = .milliseconds(1)
                try await whileConsuming(url, configuration) { try await Task.sleep(for: .seconds(20)) }
            },
            of("concurrency", \.concurrency), of("prefetch", \.prefetch), of("drainTimeout", \.drainTimeout),
            interrupted("reopenBackoff", \.reopenBackoff, called: "minimum", "maximum", "factor", "jitter", "backoff"),
            failing("retryBackoff", \.retryBackoff, called: "minimum", "maximum", "factor", "jitter", "backoff"),
            Setting("DeliveryFailurePolicy.deadLetterAfter") {
                try await consume(url, policy(.deadLetterAfter($0)), fails: true)
            },
            Setting("MissingQueuePolicy.fail", deadline: true) { value in
                var configuration = ConsumerConfiguration()
                configuration.missingQueue = .fail(after: value)
                configuration.reopenBackoff = Backoff(minimum: .milliseconds(1), maximum: .milliseconds(1))
                try await consume(url, configuration, fails: false)
                try await whileConsuming(url, configuration, declares: false)
            },
            Setting("ConsumerArguments.priority") { (value: Int32) in
                var priority = ConsumerArguments()
                priority.priority = value
                try await consume(url, arguments(priority), fails: false)
            },
            Setting("ConsumerArguments.init#priority") { (value: Int32) in
                try await consume(url, arguments(ConsumerArguments(priority: value)), fails: false)
            },
            offset("offset") { .offset($0) }, offset("timestamp") { .timestamp($0) }, offset("age") { .age($0) },
            Setting("AMQPPool.withDeliveries#prefetch") { value in
                try await whileRunning(AMQPPool(endpoints: [try Endpoint(url: url)])) { pool in
                    let onOpen: @Sendable (AMQPChannel) async throws -> Void = {
                        try await $0.declareQueue("q", durable: true)
                        try await $0.publish(ByteBuffer(string: "hello"), routingKey: "q")
                    }
                    try await pool.withDeliveries(of: "q", prefetch: value, onOpen: onOpen) { deliveries in
                        for await delivery in deliveries {
                            delivery.acknowledge()
                            break
                        }
                    }
                }
            },
        ]
    }

    // MARK: What is declared and sent

    private var topology: [Setting] {
        func of(_ type: QueueArguments.QueueType) -> SettingsOf<QueueArguments> {
            SettingsOf("QueueArguments", { QueueArguments(type: type) }) { [url] arguments in
                try await withChannel(url) { channel in
                    try await channel.declareQueue("declared", arguments: arguments)
                    _ = try await channel.deleteQueue("declared")
                }
            }
        }
        let classic = of(.classic)
        return [
            classic("expires", \.expires), classic("messageTTL", \.messageTTL, called: "x-message-ttl"),
            classic("maximumLength", \.maximumLength, called: "x-max-length"),
            classic("maximumBytes", \.maximumBytes, called: "x-max-length-bytes"),
            classic("maximumPriority", \.maximumPriority, called: "x-max-priority"),
            of(.quorum)("deliveryLimit", \.deliveryLimit, called: "x-delivery-limit"),
            of(.quorum)("initialGroupSize", \.initialGroupSize, called: "x-quorum-initial-group-size"),
            of(.stream)("maximumAge", \.maximumAge, called: "x-max-age"),
            of(.stream)("segmentBytes", \.segmentBytes, called: "x-stream-max-segment-size-bytes"),
        ]
    }

    /// Each goes to the broker and comes back.
    private var values: [Setting] {
        func field<Value: HasExtremes>(
            _ name: String,
            _ make: @escaping @Sendable (Value) -> FieldValue
        ) -> Setting {
            Setting("FieldValue.\(name)", called: "header", "uint64", "unsigned", "floating-point") { [url] value in
                _ = try await sent(MessageProperties(headers: ["x": make(value)]), url)
            }
        }
        let of = SettingsOf("MessageProperties", { MessageProperties() }) { [url] properties in
            let received = try await sent(properties, url)
            guard received.priority == properties.priority, received.timestamp == properties.timestamp else {
                throw Unexpected("came back as \(received)")
            }
        }
        return [
            field("int8") { .int8($0) }, field("uint8") { .uint8($0) }, field("int16") { .int16($0) },
            field("uint16") { .uint16($0) }, field("int32") { .int32($0) }, field("uint32") { .uint32($0) },
            field("int64") { .int64($0) }, field("uint64") { .uint64($0) }, field("timestamp") { .timestamp($0) },
            field("double") { .double($0) }, field("float") { (value: Double) in .float(Float(value)) },
            field("decimal") { (value: UInt32) in .decimal(scale: UInt8(clamping: value), value: value) },
            field("bytes") { (value: UInt8) in .bytes([value]) },
            field("init#integerLiteral") { FieldValue(integerLiteral: $0) },
            of("priority", \.priority), of("timestamp", \.timestamp),
            Setting("MessageProperties.init#priority") { [url] (value: UInt8) in
                _ = try await sent(MessageProperties(priority: value), url)
            },
            Setting("MessageProperties.init#timestamp") { [url] (value: UInt64) in
                _ = try await sent(MessageProperties(timestamp: value), url)
            },
            Setting("DeliveryMode.init#rawValue") { [url] (value: UInt8) in
                _ = try await sent(MessageProperties(deliveryMode: DeliveryMode(rawValue: value)), url)
            },
            Setting("Endpoint.init#port") { (value: Int) in
                var configuration = ConnectionConfiguration()
                configuration.connectTimeout = .seconds(2)
                do {
                    let connection = try await AMQPConnection.open(
                        Endpoint(host: "127.0.0.1", port: value),
                        configuration: configuration
                    )
                    await connection.close()
                } catch let error as AMQPError where (1...65_535).contains(value) {
                    guard case .connectFailed = error else { throw error }
                }
            },
        ]
    }
}

private let match = HeadersMatch.all(["a": 1])

private func withConnection(_ url: String, _ body: (AMQPConnection) async throws -> Void) async throws {
    let connection = try await AMQPConnection.open(try Endpoint(url: url))
    do {
        try await body(connection)
    } catch {
        await connection.close()
        throw error
    }
    await connection.close()
}

/// A channel, a durable queue `q`, a durable exchange `x`.
private func withChannel(_ url: String, _ body: (AMQPChannel) async throws -> Void) async throws {
    try await withConnection(url) { connection in
        let channel = try await connection.openChannel()
        try await channel.declareQueue("q", durable: true)
        try await channel.declareExchange("x", type: .fanout, durable: true)
        try await body(channel)
    }
}

private func sent(_ properties: MessageProperties, _ url: String) async throws -> MessageProperties {
    var received = MessageProperties()
    try await withConnection(url) { connection in
        let channel = try await connection.openChannel()
        let queue = try await channel.declareQueue("", exclusive: true).name
        try await channel.publish(ByteBuffer(string: "hello"), properties: properties, routingKey: queue)
        guard let delivery = try await channel.get(queue: queue, noAck: true) else { throw Unexpected("no message") }
        received = delivery.properties
    }
    return received
}

private func whileRunning(_ pool: AMQPPool, _ body: (AMQPPool) async throws -> Void) async throws {
    try await pool.start()
    do {
        try await body(pool)
    } catch {
        await pool.stop()
        throw error
    }
    await pool.stop()
}

/// Long enough to renew what has expired.
private func renew(_ credentials: Credentials, _ url: String) async throws {
    var configuration = PoolConfiguration(endpoints: [try Endpoint(url: url)])
    configuration.connection.credentials = CredentialsProvider { _ in credentials }
    let pool = AMQPPool(configuration: configuration)
    try await whileRunning(pool) { pool in
        try await pool.waitUntilReady()
        try await Task.sleep(for: .milliseconds(1200))
        try await pool.publish(ByteBuffer(string: "hello"), routingKey: "nobody")
    }
}

private func use(_ pool: AMQPPool) async throws {
    try await whileRunning(pool) { pool in
        try await pool.publish(ByteBuffer(string: "hello"), routingKey: "nobody")
        _ = try await pool.withDedicatedChannel { $0.number }
    }
}

/// Consumes a queue with a message for a moment.
private func whileConsuming(
    _ url: String,
    _ configuration: ConsumerConfiguration,
    declares: Bool = true,
    handler: @escaping @Sendable () async throws -> Void = {}
) async throws {
    let pool = AMQPPool(endpoints: [try Endpoint(url: url)])
    let root = Supervisor("app", intensity: RestartIntensity(0, within: .seconds(1)), logger: quiet) {
        pool.supervisor
        Child.consumer("consumer", of: declares ? "consumed" : "missing", on: pool, configuration: configuration) {
            channel in
            guard declares else { return }
            try await channel.declareQueue("consumed", durable: true)
            try await channel.publish(ByteBuffer(string: "hello"), routingKey: "consumed")
        } handler: { _ in
            try await handler()
        }
    }
    let running = Task { try await root.run() }
    try await Task.sleep(for: .milliseconds(200))
    await root.stop()
    try await running.value
}

/// Consumes one message, whose handler fails at first if it is asked to.
private func consume(_ url: String, _ configuration: ConsumerConfiguration, fails: Bool) async throws {
    let pool = AMQPPool(endpoints: [try Endpoint(url: url)])
    let (handled, handling) = AsyncStream.makeStream(of: Void.self)
    let once = Once()
    let root = Supervisor("app", intensity: RestartIntensity(0, within: .seconds(1)), logger: quiet) {
        pool.supervisor
        Child.consumer("consumer", of: "consumed", on: pool, configuration: configuration) { channel in
            try await channel.declareQueue("consumed", durable: true)
        } handler: { _ in
            handling.yield()
            if fails, once.take() { throw Unexpected("on purpose") }
        }
    }
    let running = Task { try await root.run() }
    let ended = Task {
        let result = await running.result
        handling.finish()
        return result
    }
    do {
        try await pool.publish(ByteBuffer(string: "hello"), routingKey: "consumed", mandatory: true)
    } catch AMQPError.returned {
        // The queue is not there yet, since a value that is refused has its tree end.
        try await Task.sleep(for: .milliseconds(100))
        try? await pool.publish(ByteBuffer(string: "hello"), routingKey: "consumed")
    } catch {
        // The tree tells why.
    }
    var iterator = handled.makeAsyncIterator()
    let isHandled: Void? = await iterator.next()
    await root.stop()
    let result = await ended.value
    if isHandled == nil { try result.get() }
}
