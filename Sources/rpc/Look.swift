import AMQPPool
import ArgumentParser
import Foundation
import Logging
import NIOCore
import RPCCaller
import RPCReceiver
import RPCWire
import Synchronization

/// Shared by the commands that inspect a broker.
enum Looking {
    /// Opens a connection for the duration of the body.
    static func connect<Result: Sendable>(
        _ broker: BrokerOptions,
        _ body: (AMQPConnection, Endpoint) async throws -> Result
    ) async throws -> Result {
        guard let endpoint = try broker.endpointsOrDefault().first else { throw ExitCode.failure }
        var configuration = ConnectionConfiguration()
        configuration.name = "rpc-tool"
        do {
            let connection = try await AMQPConnection.open(
                endpoint,
                configuration: configuration,
                logger: broker.logger
            )
            do {
                let result = try await body(connection, endpoint)
                await connection.close()
                return result
            } catch {
                await connection.close()
                throw error
            }
        } catch let error as AMQPError {
            Environment.writeError("rpc: \(error)")
            throw error.replyCode == 404 ? ToolExit.unroutable : ToolExit.connection
        }
    }

    /// The status of a queue; `nil` when it does not exist.
    static func status(of queue: String, on connection: AMQPConnection) async throws -> QueueStatus? {
        do throws(AMQPError) {
            return try await connection.withTemporaryChannel { channel throws(AMQPError) in
                try await channel.declareQueue(queue, passive: true)
            }
        } catch {
            if error.replyCode == 404 { return nil }
            throw error
        }
    }

    /// Aligns rows in columns. Control characters in names from others do not reach the terminal.
    static func table(_ rows: [[String]]) -> String {
        let rows = rows.map { $0.map(\.escaped) }
        let columns = rows.map(\.count).max() ?? 0
        let widths = (0..<columns).map { column in rows.map { $0.count > column ? $0[column].count : 0 }.max() ?? 0 }
        return rows.map { row in
            row.enumerated().map { column, text in
                column == row.count - 1
                    ? text : text + String(repeating: " ", count: widths[column] - text.count + 2)
            }.joined()
        }.joined(separator: "\n")
    }

    static func json(_ document: some Encodable) throws -> String {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // JSON leaves some control characters unescaped.
        return String(decoding: try encoder.encode(document), as: UTF8.self).escapedAsJSON
    }
}

struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls",
        abstract: "List the services of a virtual host, with their instances and backlogs.",
        discussion: """
            A service has a queue, SERVICE.rpcs; its instances are the consumers, its backlog the waiting requests. With names it asks \
            the broker for these. Without names it asks the broker's management plugin for all, with the user and password of the \
            broker's URL; AMQP itself cannot list queues.

            Exit codes: 0 success, 3 one of the named services does not exist, 5 no connection, 64 wrong usage.

            Examples:
              rpc ls
              rpc ls math mailer
              rpc ls --management http://broker:15672
            """
    )

    struct Row: Codable, Sendable {
        var service: String
        var consumers: Int
        var waiting: Int
        var unacknowledged: Int?
        var type: String?
        var state: String?
    }

    @Argument(help: "Services to ask for; all when none is named.")
    var services: [String] = []

    @Option(
        help: ArgumentHelp(
            "The URL of the management plugin. Default: the broker's host, port 15672.",
            valueName: "url"
        )
    )
    var management: String?

    @Flag(help: "Print JSON: one array.")
    var json = false

    @OptionGroup
    var broker: BrokerOptions

    func run() async throws {
        let suffix = RPCNames().requestQueueSuffix
        var missing: [String] = []
        let rows: [Row]
        if services.isEmpty {
            rows = try await managed(suffix)
        } else {
            rows = try await Looking.connect(broker) { connection, _ in
                var rows: [Row] = []
                for service in services {
                    guard let status = try await Looking.status(of: service + suffix, on: connection) else {
                        missing.append(service)
                        continue
                    }
                    rows.append(Row(service: service, consumers: status.consumerCount, waiting: status.messageCount))
                }
                return rows
            }
        }
        if json {
            Environment.writeOutput(try Looking.json(rows))
        } else if !rows.isEmpty {
            let isManaged = services.isEmpty
            let head = ["SERVICE", "CONSUMERS", "WAITING"] + (isManaged ? ["IN WORK", "QUEUE", "STATE"] : [])
            Environment.writeOutput(
                Looking.table(
                    [head]
                        + rows.map { row in
                            [row.service, "\(row.consumers)", "\(row.waiting)"]
                                + (isManaged
                                    ? [
                                        row.unacknowledged.map { "\($0)" } ?? "-", row.type ?? "-", row.state ?? "-",
                                    ] : [])
                        }
                )
            )
        } else if services.isEmpty {
            Environment.writeError("rpc: no service has a queue in this virtual host")
        }
        for service in missing {
            Environment.writeError("rpc: no service \"\(service)\": it has no queue \(service)\(suffix)")
        }
        if !missing.isEmpty { throw ToolExit.unroutable }
    }

    private func managed(_ suffix: String) async throws -> [Row] {
        guard let endpoint = try broker.endpointsOrDefault().first else { return [] }
        do {
            return try await ManagementAPI(endpoint, url: management).queues()
                .filter { $0.name.hasSuffix(suffix) }
                .map { queue in
                    Row(
                        service: String(queue.name.dropLast(suffix.count)),
                        consumers: queue.consumers ?? 0,
                        waiting: queue.messages_ready ?? 0,
                        unacknowledged: queue.messages_unacknowledged,
                        type: queue.type,
                        state: queue.state
                    )
                }
                .sorted { $0.service < $1.service }
        } catch let failure as ManagementAPI.Failure {
            Environment.writeError("rpc: \(failure)")
            Environment.writeError(
                "     rpc ls SERVICE asks without it. It is enabled by: rabbitmq-plugins enable rabbitmq_management"
            )
            throw ToolExit.connection
        }
    }
}

struct Tail: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print the messages of a queue without consuming them.",
        discussion: """
            For a service's queue (SERVICE.rpcs) it prints the requests that arrive from now on, as copies from a temporary queue: \
            no request is taken from its receivers. While it runs, a request to a service without receivers counts as \
            delivered, because the copy is.

            For any other queue, and with --waiting, it prints the waiting messages, and requeues them. Consumers then find the \
            messages marked as redelivered, and a quorum queue counts one delivery more for each.

            Bodies are printed only with --body, because they may be confidential.

            Ctrl-C ends it. Exit codes: 0 ended, 3 there is no such queue, 5 no connection, 64 wrong usage.

            Examples:
              rpc tail math.rpcs
              rpc tail orders --count 5 --body
            """
    )

    @Argument(help: "The queue.")
    var queue: String

    @Option(
        help: ArgumentHelp(
            "How many messages to print. Default: 10 waiting ones, or all that arrive.",
            valueName: "messages"
        )
    )
    var count: Int?

    @Flag(help: "Print the waiting messages of a service's queue, instead of arriving ones.")
    var waiting = false

    @Flag(help: "Print bodies too, up to 2,000 bytes of each.")
    var body = false

    @OptionGroup
    var broker: BrokerOptions

    static let maximumBody = 2000

    func validate() throws {
        if let count, !(1...10_000).contains(count) { throw ValidationError("--count takes 1 to 10000, not \(count)") }
        guard 1...255 ~= queue.utf8.count else { throw ValidationError("a queue's name has 1 to 255 bytes") }
    }

    func run() async throws {
        let suffix = RPCNames().requestQueueSuffix
        try await Looking.connect(broker) { connection, _ in
            if !waiting, queue.hasSuffix(suffix), queue.utf8.count > suffix.utf8.count {
                try await follow(String(queue.dropLast(suffix.count)), connection)
            } else {
                try await look(connection)
            }
        }
    }

    /// Shows copies of arriving requests.
    private func follow(_ service: String, _ connection: AMQPConnection) async throws {
        let (deliveries, continuation) = AsyncStream.makeStream(
            of: Delivery.self,
            bufferingPolicy: .bufferingNewest(1000)
        )
        let channel = try await connection.openChannel()
        let status = try await channel.declareQueue("", durable: false, exclusive: true, autoDelete: true)
        var match = FieldTable()
        match["x-match"] = .string("all")
        match[Self.destination] = .string(service)
        try await channel.bindQueue(status.name, to: RPCNames().exchange, arguments: match)
        try await channel.consume(
            queue: status.name,
            noAck: true,
            onDelivery: { continuation.yield($0) },
            onCancel: { continuation.finish() }
        )
        channel.onClosed { _ in continuation.finish() }
        Environment.writeError("looking at requests to \"\(service)\" (stop with Ctrl-C)")
        var left = count ?? .max
        for await delivery in deliveries {
            show(delivery)
            left -= 1
            if left == 0 { return }
        }
        if let error = channel.closedError { throw error }
    }

    private static let destination = "destination"

    /// Shows waiting messages, which are requeued with the end of the channel.
    private func look(_ connection: AMQPConnection) async throws {
        let queue = queue
        guard try await Looking.status(of: queue, on: connection) != nil else {
            Environment.writeError("rpc: there is no queue \"\(queue)\"")
            throw ToolExit.unroutable
        }
        let limit = count ?? 10
        let deliveries = try await connection.withTemporaryChannel { channel throws(AMQPError) in
            var deliveries: [Delivery] = []
            while deliveries.count < limit, let delivery = try await channel.get(queue: queue) {
                deliveries.append(delivery)
            }
            return deliveries
        }
        for delivery in deliveries { show(delivery) }
        if deliveries.isEmpty { Environment.writeError("nothing waits in \"\(queue)\"") }
    }

    private func show(_ delivery: Delivery) {
        let properties = delivery.properties
        var parts = [Clock.text(Int64(Date().timeIntervalSince1970 * 1000))]
        if case .string(let procedure)? = properties.headers["procedure"] { parts.append(procedure.escaped) }
        parts.append("\(delivery.body.readableBytes) bytes")
        let named: [(String, String?)] = [
            ("id", properties.messageID), ("reply to", properties.replyTo), ("type", properties.type),
            ("content", properties.contentType), ("expires", properties.expiration),
            ("exchange", delivery.exchange.isEmpty ? nil : delivery.exchange),
            ("key", delivery.routingKey.isEmpty ? nil : delivery.routingKey),
        ]
        for (name, value) in named { if let value { parts.append("\(name)=\(value.escaped)") } }
        if delivery.redelivered { parts.append("redelivered") }
        Environment.writeOutput(parts.joined(separator: "  "))
        guard body else { return }
        let bytes = delivery.body.readableBytesView.prefix(Self.maximumBody)
        let cut = delivery.body.readableBytes > bytes.count ? "…" : ""
        Environment.writeOutput("    " + String(decoding: bytes, as: UTF8.self).escaped + cut)
    }
}

struct Describe: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Describe a service: its queue, its instances, its procedures.",
        discussion: """
            Exit codes: 0 success, 3 there is no such service, 5 no connection, 64 wrong usage.

            Example:
              rpc describe math
            """
    )

    @Argument(help: "The service.")
    var service: String

    @Option(
        help: ArgumentHelp(
            "The URL of the management plugin, for information that AMQP does not provide.",
            valueName: "url"
        )
    )
    var management: String?

    @OptionGroup
    var broker: BrokerOptions

    func run() async throws {
        let names = RPCNames()
        let queue = service + names.requestQueueSuffix
        guard
            let status = try await Looking.connect(
                broker,
                { connection, _ in try await Looking.status(of: queue, on: connection) }
            )
        else {
            Environment.writeError("rpc: no service \"\(service)\": it has no queue \(queue)")
            throw ToolExit.unroutable
        }
        var rows = [
            ["service", service], ["queue", queue],
            ["exchange", "\(names.exchange), by the header destination = \(service)"],
            ["consumers", "\(status.consumerCount)"], ["waiting", "\(status.messageCount)"],
        ]
        if let endpoint = try broker.endpointsOrDefault().first,
            let known = try? await ManagementAPI(endpoint, url: management).queue(queue)
        {
            rows.append(["type", known.type ?? "classic"])
            rows.append(["state", known.state ?? "-"])
            rows.append(["in work", known.messages_unacknowledged.map { "\($0)" } ?? "-"])
            for consumer in known.consumer_details ?? [] {
                let name = consumer.channel_details?.connection_name ?? "a connection"
                rows.append(["consumer", "\(name), prefetch \(consumer.prefetch_count ?? 0)"])
            }
        } else {
            rows.append(["more", "rpc describe \(service) --management URL: the management plugin did not answer"])
        }
        if status.consumerCount > 0 { rows += await procedures() }
        if status.consumerCount == 0 {
            rows.append(["note", "nobody consumes its queue: requests wait until they expire"])
        }
        Environment.writeOutput(Looking.table(rows))
    }

    /// The procedures that one of its instances describes.
    private func procedures() async -> [[String]] {
        guard let endpoints = try? broker.endpointsOrDefault() else { return [] }
        var configuration = RPCCallerConfiguration(endpoints: endpoints)
        configuration.pool.connections = 1
        let rpc = RPCCaller(service: "rpc-tool", configuration: configuration, logger: broker.logger)
        guard (try? await rpc.start()) != nil else { return [] }
        var rows: [[String]] = []
        do throws(RPCError) {
            for procedure in try await rpc.describe(service, timeout: .seconds(5)).procedures {
                let types = "\(procedure.request) to \(procedure.response)"
                rows.append(["answers", "\(procedure.name ?? "(default)"), \(types)"])
            }
        } catch {
            rows = [["answers", "no description: \(error)"]]
        }
        await rpc.stop()
        return rows
    }
}
