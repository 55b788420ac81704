package import AMQPPool

/// Makes sure that what calls go through exists, with no more rights than the deployment gives.
package struct RPCTopology: Sendable {
    private let names: RPCNames

    package init(names: RPCNames) {
        self.names = names
    }

    /// Makes sure that the exchange exists. A publish to a missing one would close the channel.
    ///
    /// It is declared passively first, which needs no right and never collides with how somebody else made it. That is done
    /// on channels of its own, since a 404 ends the channel it is told on.
    package func ensureExchange(on connection: AMQPConnection) async throws {
        do {
            try await withChannel(of: connection) { channel throws(AMQPError) in
                try await channel.declareExchange(names.exchange, type: .headers, passive: true)
            }
        } catch let error where error.replyCode == 404 && names.declares {
            try await RPCTopologyError.naming("exchange", names.exchange) { () throws(AMQPError) in
                try await withChannel(of: connection) { channel throws(AMQPError) in
                    try await channel.declareExchange(names.exchange, type: .headers, durable: true)
                }
            }
        } catch {
            throw RPCTopologyError.named("exchange", names.exchange, error)
        }
    }

    /// Makes sure that a queue exists and gets the requests that its bindings match.
    package func ensure(_ queue: RequestQueue, on channel: AMQPChannel) async throws {
        try await RPCTopologyError.naming("queue", queue.name) { () throws(AMQPError) in
            guard names.declares else {
                try await channel.declareQueue(queue.name, passive: true)
                return
            }
            try await channel.declareQueue(queue.name, durable: queue.isDurable, arguments: queue.arguments)
            for match in queue.bindings {
                try await channel.bindQueue(queue.name, to: names.exchange, arguments: match)
            }
        }
    }

    private func withChannel(
        of connection: AMQPConnection,
        _ body: (AMQPChannel) async throws(AMQPError) -> Void
    ) async throws(AMQPError) {
        let channel = try await connection.openChannel()
        do throws(AMQPError) {
            try await body(channel)
        } catch {
            await channel.close()
            throw error
        }
        await channel.close()
    }
}

/// A queue that requests wait in, and what the exchange puts there.
package struct RequestQueue: Sendable {
    package var name: String
    package var isDurable: Bool
    package var arguments: FieldTable
    /// The arguments of each binding to the exchange.
    package var bindings: [FieldTable]

    package init(name: String, isDurable: Bool, arguments: FieldTable, bindings: [FieldTable]) {
        self.name = name
        self.isDurable = isDurable
        self.arguments = arguments
        self.bindings = bindings
    }
}

/// The broker does not let us have what calls go through: it exists with other settings (406), or we may not (403).
///
/// At the first open that is a mistake in configuration: the caller or receiver stops, and its `run()` throws this.
public struct RPCTopologyError: Error, Sendable, CustomStringConvertible {
    /// What was declared or consumed: "queue" or "exchange", and its name.
    public let subject: String
    /// The broker's reply code.
    public let code: UInt16
    /// What the broker said.
    public let text: String

    /// One sentence with the name and the broker's text.
    public var description: String { "the broker refuses \(subject): \(code) \(text)" }

    /// Runs declarations of one thing, so that their refusal names it.
    package static func naming(
        _ kind: String,
        _ name: String,
        _ body: () async throws(AMQPError) -> Void
    ) async throws {
        do {
            try await body()
        } catch {
            throw named(kind, name, error)
        }
    }

    /// The error as a refusal of this thing, when it is one (403, 406); else as it is.
    package static func named(_ kind: String, _ name: String, _ error: AMQPError) -> any Error {
        guard case .channelClosedByBroker(let code, let text) = error.cause, code == 403 || code == 406 else {
            return error
        }
        return RPCTopologyError(subject: "\(kind) \"\(name)\"", code: code, text: text)
    }
}
