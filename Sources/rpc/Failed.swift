import AMQPPool
import ArgumentParser
import NIOCore
import QueueWorkers
import RPCCaller

/// `rpc failed`: messages that could not be handled.
struct Failed: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List the messages of a queue of failed messages, requeue them, or drop them.",
        discussion: """
            The queue is a worker's, such as orders.failed, or any that a dead letter exchange fills.

            Examples:
              rpc failed ls orders.failed
              rpc failed show orders.failed 5f3a
              rpc failed requeue orders.failed --all
              rpc failed drop orders.failed --older 604800
            """,
        subcommands: [List.self, Show.self, Requeue.self, Drop.self]
    )

    /// The options of all its subcommands.
    struct Options: ParsableArguments {
        @Argument(help: "The queue of failed messages.")
        var queue: String

        @Option(help: ArgumentHelp("The maximum number of messages to read.", valueName: "count"))
        var limit = 10_000

        @OptionGroup
        var broker: BrokerOptions

        func validate() throws {
            guard limit > 0 else { throw ValidationError("--limit must be at least 1, but is \(limit)") }
        }

        func withMessages<Result: Sendable>(
            _ body: @escaping @Sendable (FailedMessages) async throws -> Result
        ) async throws -> Result {
            let pool = AMQPPool(endpoints: try broker.endpointsOrDefault(), connections: 1, logger: broker.logger)
            try await pool.start()
            do {
                let result = try await body(FailedMessages(in: queue, on: pool))
                await pool.stop()
                return result
            } catch {
                await pool.stop()
                Environment.writeError("rpc: \("\(error)".escaped)")
                if let error = error as? AMQPError {
                    if error.replyCode == 404 { throw ToolExit.unroutable }
                    if case .notConnected = error.cause { throw ToolExit.connection }
                }
                throw ExitCode.failure
            }
        }
    }

    /// Which messages.
    struct Selection: ParsableArguments {
        @Option(help: "The message with this id.")
        var id: String?

        @Flag(help: "All current messages.")
        var all = false

        @Option(help: ArgumentHelp("Messages that failed at least this long ago.", valueName: "seconds"))
        var older: UInt64?

        func validate() throws {
            guard [id != nil, all, older != nil].filter({ $0 }).count == 1 else {
                throw ValidationError("specify messages with one of --id, --all and --older")
            }
        }

        var selection: FailedMessages.Selection {
            if let id { return .id(id) }
            if let older { return .olderThan(older) }
            return .all
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "ls",
            abstract: "List failed messages: id, attempts, queue, reason. They stay in the queue."
        )

        @OptionGroup
        var options: Options

        func run() async throws {
            let limit = options.limit
            let messages = try await options.withMessages { try await $0.list(limit: limit) }
            if messages.contains(where: { ($0.deliveries ?? 0) >= Failed.manyDeliveries }) {
                Environment.writeError(
                    """
                    rpc: the broker counts each read of a message as a delivery, and some of these have been delivered \
                    \(Failed.manyDeliveries) times or more. From RabbitMQ 4.0 on a quorum queue drops a message after 20, unless it was declared \
                    with another x-delivery-limit or a policy says so
                    """
                )
            }
            for message in messages {
                let columns = [
                    message.id ?? "-", message.attempts.map(String.init) ?? "-", message.queue ?? "-",
                    message.reason ?? "-",
                ]
                Environment.writeOutput(columns.map(\.escaped).joined(separator: "\t"))
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show one failed message, which stays in the queue.")

        @OptionGroup
        var options: Options

        @Argument(help: "Its message id.")
        var id: String

        func run() async throws {
            let (limit, id) = (options.limit, id)
            let found = try await options.withMessages { try await $0.list(limit: limit).first { $0.id == id } }
            guard let found else {
                Environment.writeError("rpc: there is no message with the id \(id.escaped)")
                throw ExitCode.failure
            }
            let properties = found.delivery.properties
            Environment.writeOutput("message-id: \((found.id ?? "").escaped)")
            if let type = properties.contentType { Environment.writeOutput("content-type: \(type.escaped)") }
            if let type = properties.type { Environment.writeOutput("type: \(type.escaped)") }
            for entry in properties.headers.entries {
                Environment.writeOutput("\(entry.key): \(Failed.text(entry.value))".escaped)
            }
            Environment.writeOutput("")
            Environment.writeOutput(String(buffer: found.delivery.body).escapedButLines)
        }
    }

    struct Requeue: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Requeue failed messages to the queues they came from.",
            discussion: """
                Each is published and confirmed before it is removed. If this is interrupted, nothing is lost; one message may be in \
                both queues.
                """
        )

        @OptionGroup
        var options: Options

        @OptionGroup
        var selection: Selection

        @Option(help: "Put them into this queue instead.")
        var to: String?

        func run() async throws {
            let (limit, which, to) = (options.limit, selection.selection, to)
            let count = try await options.withMessages { try await $0.requeue(which, to: to, limit: limit) }
            Environment.writeOutput("\(count) put back")
        }
    }

    struct Drop: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Drop failed messages permanently.")

        @OptionGroup
        var options: Options

        @OptionGroup
        var selection: Selection

        func run() async throws {
            let (limit, which) = (options.limit, selection.selection)
            let count = try await options.withMessages { try await $0.drop(which, limit: limit) }
            Environment.writeOutput("\(count) dropped")
        }
    }

    /// From this number of deliveries on, listing a message may reach its limit.
    private static let manyDeliveries = 15

    static func text(_ value: FieldValue) -> String {
        switch value {
        case .string(let text): text
        case .int64(let number): "\(number)"
        case .timestamp(let seconds): "\(seconds)"
        case .bool, .int8, .uint8, .int16, .uint16, .int32, .uint32, .uint64, .float, .double, .decimal, .bytes,
            .array, .table, .void:
            "\(value)"
        }
    }
}
