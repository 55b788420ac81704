package import AMQPPool

/// Ensures that the exchange and queues of calls exist, within the deployment's permissions.
package struct RPCTopology: Sendable {
    private let names: RPCNames

    package init(names: RPCNames) {
        self.names = names
    }

    /// Ensures that the exchange exists and routes by headers. Publishing to a missing exchange would close the channel, and an exchange of
    /// another type would route each request to every service.
    ///
    /// The exchange is declared on a separate channel, because a refusal closes it. The broker may answer that
    ///
    /// - the exchange has another type (406): an error;
    /// - the exchange exists with other properties (406): it is used as it is;
    /// - the user may not declare it (403): it is used if it exists. Its type is unknown then.
    package func ensureExchange(on connection: AMQPConnection) async throws {
        let name = names.exchange
        do {
            // Without declarations the exchange only has to exist.
            if !names.declares { try await exchangeExists(on: connection) }
            try await withChannel(of: connection) { channel throws(AMQPError) in
                try await channel.declareExchange(name, type: .headers, durable: true)
            }
        } catch {
            switch Self.meaning(of: error) {
            case .otherProperties: return
            case .mayNotDeclare where !names.declares: return
            case .mayNotDeclare:
                do {
                    try await exchangeExists(on: connection)
                } catch let missing where missing.replyCode == 404 {
                    throw RPCTopologyError.named("exchange", name, error)
                } catch {
                    throw RPCTopologyError.named("exchange", name, error)
                }
            case .refused: throw RPCTopologyError.named("exchange", name, error)
            }
        }
    }

    private enum Meaning {
        case otherProperties
        case mayNotDeclare
        case refused
    }

    /// The meaning of the broker's answer to the declaration of the exchange. The type is the first property that it compares.
    private static func meaning(of error: AMQPError) -> Meaning {
        switch error.refusal {
        case .operation(403, _): .mayNotDeclare
        case .operation(406, let text): text.contains("arg 'type'") ? .refused : .otherProperties
        case .operation, .topology, .message, nil: .refused
        }
    }

    private func exchangeExists(on connection: AMQPConnection) async throws(AMQPError) {
        try await withChannel(of: connection) { channel throws(AMQPError) in
            try await channel.declareExchange(names.exchange, type: .headers, passive: true)
        }
    }

    /// Checks that everything still exists, on a channel that may be closed by it.
    package func check(_ queue: RequestQueue, on connection: AMQPConnection) async throws {
        if !queue.bindings.isEmpty { try await ensureExchange(on: connection) }
        let channel = try await connection.openChannel()
        do {
            try await ensure(queue, on: channel)
        } catch {
            await channel.close()
            throw error
        }
        await channel.close()
    }

    /// Ensures that a queue exists and gets the requests that its bindings match.
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

/// A queue of requests, and its bindings.
package struct RequestQueue: Sendable {
    package var name: String
    var isDurable: Bool
    var arguments: FieldTable
    /// The arguments of each binding to the exchange.
    package var bindings: [FieldTable]

    package init(name: String, isDurable: Bool, arguments: FieldTable, bindings: [FieldTable]) {
        self.name = name
        self.isDurable = isDurable
        self.arguments = arguments
        self.bindings = bindings
    }
}

/// The broker refuses an exchange or queue: it exists with other settings (406), the user has no permission (403), or the request is not
/// permitted at all (541, 540, 503).
///
/// At the first open that is a configuration error: the caller or receiver stops, and its `run()` throws this.
public struct RPCTopologyError: Error, Sendable, Hashable, CustomStringConvertible {
    /// What was declared or consumed: "queue" or "exchange", and its name.
    public let subject: String
    /// The broker's reply code.
    public let code: UInt16
    /// The broker's text.
    public let text: String

    /// The declaration, or the user's permissions, have to be changed.
    package var isRefusal: Bool { true }

    /// As for ``AMQPError``.
    package var mayPass: Bool { code == 541 }

    /// The error as a sentence, with the name and the broker's text.
    public var description: String { "the broker refuses \(subject): \(code) \(text)" }

    /// Runs declarations of one subject, so that their refusal names it.
    static func naming(
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

    /// The error as a refusal of this subject, if it is one; otherwise unchanged.
    ///
    /// Most refusals end the channel (403, 406), some the connection: a feature that is not permitted (541), an unknown type (503), an
    /// operation that is not implemented (540).
    package static func named(_ kind: String, _ name: String, _ error: AMQPError) -> any Error {
        switch error.refusal {
        case .operation(let code, let text) where code == 403 || code == 406, .topology(let code, let text):
            RPCTopologyError(subject: "\(kind) \"\(name)\"", code: code, text: text)
        case .operation, .message, nil: error
        }
    }
}

extension RPCTopologyError: BrokerRefusal {}
